#include "runtime/rpc/convert.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "runtime/base/check.h"
#include "runtime/proto/muster.pb.h"

namespace muster {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The length of the UTF-8 character that `text` begins with, or 0 if it begins with none.
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  const unsigned char second = byte(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
  if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  return length;
}

Status CheckRange(std::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return Err(Code::kInvalidArgument, "{} is {}, it must be {} to {}", field, value, low, high);
}

Status CheckFinite(std::string_view field, double value) {
  if (std::isfinite(value)) return {};
  return Err(Code::kInvalidArgument, "{} is {}, it must be finite", field, value);
}

// Kinds on the wire keep their numbers for ever; those of the core are only names.
template <typename Kind, typename Wire>
struct KindPair {
  Kind kind;
  Wire wire;
};
constexpr KindPair<Order::Kind, v1::Order::Kind> kOrderKinds[] = {
    {Order::Kind::kGeneration, v1::Order::GENERATION},
    {Order::Kind::kStop, v1::Order::STOP},
    {Order::Kind::kRejoin, v1::Order::REJOIN},
    {Order::Kind::kRelease, v1::Order::RELEASE},
};
constexpr KindPair<Report::Kind, v1::WorkerReport::Kind> kReportKinds[] = {
    {Report::Kind::kProgress, v1::WorkerReport::PROGRESS},
    {Report::Kind::kRevoked, v1::WorkerReport::REVOKED},
    {Report::Kind::kBuildFailed, v1::WorkerReport::BUILD_FAILED},
    {Report::Kind::kResumed, v1::WorkerReport::RESUMED},
    {Report::Kind::kFailed, v1::WorkerReport::FAILED},
    {Report::Kind::kFinished, v1::WorkerReport::FINISHED},
    {Report::Kind::kNotice, v1::WorkerReport::NOTICE},
};

template <typename Kind, typename Wire, size_t kCount>
Wire ToWire(const KindPair<Kind, Wire> (&table)[kCount], Kind kind) {
  for (const auto& pair : table) {
    if (pair.kind == kind) return pair.wire;
  }
  MUSTER_CHECK(false, "kind {} has no form on the wire", static_cast<int>(kind));
  return {};
}

template <typename Kind, typename Wire, size_t kCount>
Result<Kind> FromWire(const KindPair<Kind, Wire> (&table)[kCount], std::string_view field,
                      Wire wire) {
  for (const auto& pair : table) {
    if (pair.wire == wire) return pair.kind;
  }
  return Err(Code::kInvalidArgument, "{} is {}, which is no known kind", field,
             static_cast<int>(wire));
}

Result<Member> MemberFromProto(const v1::Member& message) {
  MUSTER_TRY(CheckId("member", message.worker()));
  MUSTER_TRY(CheckText("address of a member", message.address()));
  return Member{message.worker(), message.incarnation(), message.address()};
}

Status CheckTexts(const v1::WorkerReport& message) {
  MUSTER_TRY(CheckText("message", message.message()));
  return CheckText("notice_kind", message.notice_kind());
}

Status CheckNumbers(const v1::WorkerReport& message) {
  MUSTER_TRY(CheckFinite("step_seconds", message.step_seconds()));
  MUSTER_TRY(CheckFinite("connect_ms", message.connect_ms()));
  MUSTER_TRY(CheckFinite("state_ms", message.state_ms()));
  return CheckFinite("resume_ms", message.resume_ms());
}

}  // namespace

Status CheckId(std::string_view field, std::string_view id) {
  const bool good = !id.empty() && id.size() <= kMaxIdBytes &&
                    id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == id.npos;
  if (good) return {};
  return Err(Code::kInvalidArgument, "{} is \"{}\", it must be 1 to {} of a-z, 0-9 and -", field,
             CleanText(id, 2 * kMaxIdBytes), kMaxIdBytes);
}

Status CheckText(std::string_view field, std::string_view text) {
  if (text.size() <= kMaxTextBytes) return {};
  return Err(Code::kInvalidArgument, "{} has {} bytes, it may have {}", field, text.size(),
             kMaxTextBytes);
}

std::string CleanText(std::string_view text, size_t limit) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  std::string clean;
  while (!text.empty()) {
    // Nearly all text is ASCII from end to end.
    const auto ascii_end = std::find_if_not(text.begin(), text.end(), is_ascii);
    const auto ascii = static_cast<size_t>(ascii_end - text.begin());
    clean += text.substr(0, std::min(ascii, limit - clean.size()));
    text.remove_prefix(ascii);
    if (text.empty()) break;
    const size_t length = CharacterLength(text);
    const std::string_view character = length > 0 ? text.substr(0, length) : kReplacement;
    if (clean.size() + character.size() > limit) break;
    clean += character;
    text.remove_prefix(length > 0 ? length : 1);
  }
  return clean;
}

v1::Hello ToProto(const Hello& hello) {
  v1::Hello message;
  message.set_worker(CleanText(hello.worker));
  message.set_incarnation(hello.incarnation);
  message.set_address(CleanText(hello.address));
  message.set_host(CleanText(hello.host));
  message.set_device(CleanText(hello.device));
  message.set_pid(hello.pid);
  message.set_micro_batches(hello.micro_batches);
  message.set_batch_size(hello.batch_size);
  message.set_total_steps(hello.total_steps);
  message.set_generation(hello.generation);
  message.set_revoked(hello.revoked);
  message.set_entering(hello.entering);
  message.set_step(hello.step);
  message.set_has_state(hello.has_state);
  return message;
}

v1::Generation ToProto(const Generation& generation) {
  v1::Generation message;
  message.set_number(generation.number);
  for (const Member& member : generation.members) {
    v1::Member& added = *message.add_members();
    added.set_worker(CleanText(member.worker));
    added.set_incarnation(member.incarnation);
    added.set_address(CleanText(member.address));
  }
  return message;
}

v1::Order ToProto(const Order& order) {
  v1::Order message;
  message.set_kind(ToWire(kOrderKinds, order.kind));
  *message.mutable_generation() = ToProto(order.generation);
  message.set_urgent(order.urgent);
  message.set_reason(CleanText(order.reason));
  return message;
}

v1::RunResult ToProto(const RunResult& result) {
  v1::RunResult message;
  message.set_step(result.step);
  message.set_loss(result.loss);
  message.set_weights(CleanText(result.weights));
  message.set_samples_consumed(result.samples_consumed);
  message.set_misses(result.misses);
  for (const auto& [name, value] : result.metrics)
    (*message.mutable_metrics())[CleanText(name)] = value;
  message.set_stopped(result.stopped);
  return message;
}

v1::WorkerReport ToProto(const Report& report) {
  v1::WorkerReport message;
  message.set_kind(ToWire(kReportKinds, report.kind));
  message.set_worker(CleanText(report.worker));
  message.set_incarnation(report.incarnation);
  message.set_generation(report.generation);
  message.set_prepared(report.prepared);
  message.set_step(report.step);
  message.set_has_state(report.has_state);
  message.set_waiting(report.waiting);
  message.set_loss(report.loss);
  message.set_step_seconds(report.step_seconds);
  message.set_samples_consumed(report.samples_consumed);
  message.set_lost(CleanText(report.lost));
  for (const std::string& id : report.unreachable) message.add_unreachable(CleanText(id));
  message.set_message(CleanText(report.message));
  message.set_notice_kind(CleanText(report.notice_kind));
  message.set_connect_ms(report.connect_ms);
  message.set_state_ms(report.state_ms);
  message.set_resume_ms(report.resume_ms);
  message.set_steps_redone(report.steps_redone);
  message.set_usage_error(report.usage_error);
  message.set_checkpoint_error(report.checkpoint_error);
  if (report.result) *message.mutable_result() = ToProto(*report.result);
  return message;
}

Result<Hello> FromProto(const v1::Hello& message) {
  MUSTER_TRY(CheckId("worker", message.worker()));
  MUSTER_TRY(CheckText("address", message.address()));
  MUSTER_TRY(CheckText("host", message.host()));
  MUSTER_TRY(CheckText("device", message.device()));
  MUSTER_TRY(CheckRange("pid", message.pid(), 0, INT64_MAX));
  MUSTER_TRY(CheckRange("micro_batches", message.micro_batches(), 1, kMaxMicroBatches));
  MUSTER_TRY(CheckRange("batch_size", message.batch_size(), 1, kMaxBatchSize));
  Hello hello;
  hello.worker = message.worker();
  hello.incarnation = message.incarnation();
  hello.address = message.address();
  hello.host = message.host();
  hello.device = message.device();
  hello.pid = message.pid();
  hello.micro_batches = message.micro_batches();
  hello.batch_size = message.batch_size();
  hello.total_steps = message.total_steps();
  hello.generation = message.generation();
  hello.revoked = message.revoked();
  hello.entering = message.entering();
  hello.step = message.step();
  hello.has_state = message.has_state();
  return hello;
}

Result<Generation> FromProto(const v1::Generation& message) {
  MUSTER_TRY(CheckRange("number of members", message.members_size(), 0, kMaxMembers));
  Generation generation;
  generation.number = message.number();
  std::set<std::string_view> seen;
  for (const v1::Member& wire : message.members()) {
    MUSTER_ASSIGN(Member member, MemberFromProto(wire));
    if (!seen.insert(wire.worker()).second) {
      return Err(Code::kInvalidArgument, "generation {} has the member {} twice", message.number(),
                 wire.worker());
    }
    generation.members.push_back(std::move(member));
  }
  return generation;
}

Result<Order> FromProto(const v1::Order& message) {
  MUSTER_ASSIGN(const Order::Kind kind, FromWire(kOrderKinds, "kind of an order", message.kind()));
  MUSTER_TRY(CheckText("reason", message.reason()));
  MUSTER_ASSIGN(Generation generation, FromProto(message.generation()));
  if (kind == Order::Kind::kGeneration && (generation.number == 0 || generation.members.empty())) {
    return Err(Code::kInvalidArgument, "an order names generation {} with {} members",
               generation.number, generation.members.size());
  }
  Order order;
  order.kind = kind;
  order.generation = std::move(generation);
  order.urgent = message.urgent();
  order.reason = message.reason();
  return order;
}

Result<RunResult> FromProto(const v1::RunResult& message) {
  MUSTER_TRY(CheckText("weights", message.weights()));
  MUSTER_TRY(CheckRange("number of metrics", static_cast<int64_t>(message.metrics_size()), 0,
                        kMaxMetrics));
  RunResult result;
  result.step = message.step();
  result.loss = message.loss();
  result.weights = message.weights();
  result.samples_consumed = message.samples_consumed();
  result.misses = message.misses();
  for (const auto& [name, value] : message.metrics()) {
    MUSTER_TRY(CheckText("name of a metric", name));
    result.metrics[name] = value;
  }
  result.stopped = message.stopped();
  return result;
}

Result<Report> FromProto(const v1::WorkerReport& message) {
  MUSTER_ASSIGN(const Report::Kind kind,
                FromWire(kReportKinds, "kind of a report", message.kind()));
  MUSTER_TRY(CheckId("worker", message.worker()));
  if (!message.lost().empty()) MUSTER_TRY(CheckId("lost", message.lost()));
  MUSTER_TRY(CheckRange("number of unreachable", message.unreachable_size(), 0, kMaxMembers));
  for (const std::string& id : message.unreachable()) MUSTER_TRY(CheckId("unreachable", id));
  MUSTER_TRY(CheckTexts(message));
  MUSTER_TRY(CheckNumbers(message));
  MUSTER_TRY(CheckRange("steps_redone", message.steps_redone(), 0, INT32_MAX));
  Report report;
  report.kind = kind;
  report.worker = message.worker();
  report.incarnation = message.incarnation();
  report.generation = message.generation();
  report.prepared = message.prepared();
  report.step = message.step();
  report.has_state = message.has_state();
  report.waiting = message.waiting();
  report.loss = message.loss();
  report.step_seconds = message.step_seconds();
  report.samples_consumed = message.samples_consumed();
  report.lost = message.lost();
  report.unreachable.assign(message.unreachable().begin(), message.unreachable().end());
  report.message = message.message();
  report.notice_kind = message.notice_kind();
  report.connect_ms = message.connect_ms();
  report.state_ms = message.state_ms();
  report.resume_ms = message.resume_ms();
  report.steps_redone = message.steps_redone();
  report.usage_error = message.usage_error();
  report.checkpoint_error = message.checkpoint_error();
  if (message.has_result()) {
    MUSTER_ASSIGN(report.result, FromProto(message.result()));
  }
  if (kind == Report::Kind::kFinished && !message.has_result()) {
    return Err(Code::kInvalidArgument, "result is missing from the report that {} has finished",
               message.worker());
  }
  return report;
}

}  // namespace muster
