// The membership's side of a simulated worker: orders and building. The trainer's side is trainer.cc.
#include "tests/scenarios/worker.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/scenarios/text.h"

namespace muster::scenario {

namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(5);

}  // namespace

Worker::Worker(std::string id, uint64_t incarnation, const Program& program, Surroundings& around)
    : id_(std::move(id)),
      incarnation_(incarnation),
      program_(program),
      around_(around),
      core_(id_),
      outcome_(program.micro_batches, 0) {}

Hello Worker::MakeHello() const {
  Hello hello;
  hello.worker = id_;
  hello.incarnation = incarnation_;
  hello.address = fmt::format("{}/{}", id_, incarnation_);
  hello.host = "host";
  hello.device = "cpu";
  hello.pid = 1000 + static_cast<int64_t>(incarnation_);
  hello.micro_batches = program_.micro_batches;
  hello.batch_size = 1;
  hello.total_steps = program_.steps;
  hello.generation = core_.broken() || entered_ != core_.active() ? 0 : entered_;
  hello.entering = core_.entering();
  hello.revoked = core_.revoked();
  hello.step = published_step_;
  hello.has_state = published_state_;
  return hello;
}

Report Worker::MakeProgress() const {
  Report report;
  report.worker = id_;
  report.incarnation = incarnation_;
  report.generation = entered_ == core_.active() ? entered_ : 0;
  if (built_) report.prepared = built_->generation.number;
  if (core_.active() > report.prepared) report.prepared = core_.active();
  FillReport(report);
  return report;
}

void Worker::FillReport(Report& report) const {
  report.waiting = waiting_;
  report.step = published_step_;
  report.has_state = published_state_;
  report.loss = 0.5;
  report.step_seconds = 0.1;
  report.samples_consumed = published_step_ * static_cast<uint64_t>(program_.micro_batches);
}

void Worker::Send(Report report) {
  report.worker = id_;
  report.incarnation = incarnation_;
  FillReport(report);
  around_.Send(id_, std::move(report));
}

void Worker::OnOrder(const Order& order) {
  if (order.kind == Order::Kind::kGeneration) around_.oracle().Heard(order.generation);
  static constexpr const char* kOrders[] = {"planned generation", "stop", "rejoin", "release"};
  const char* name = order.urgent ? "urgent generation" : kOrders[static_cast<int>(order.kind)];
  Carry(name, "", core_.OnOrder(order));
}

void Worker::Carry(const char* trigger, const std::string& what,
                   const std::vector<MemberAction>& actions) {
  if (around_.coverage() != nullptr) around_.coverage()->Member(trigger, core_, actions);
  if (around_.tracing()) {
    std::vector<std::string> parts;
    if (!what.empty()) parts.push_back(what);
    for (const MemberAction& action : actions) parts.push_back(Text(action));
    if (!parts.empty()) Say("{}", fmt::join(parts, "; "));
  }
  for (const MemberAction& action : actions) {
    std::visit([this](const auto& a) { Do(a); }, action);
  }
}

void Worker::Do(const BuildGeneration& action) {
  StopBuilding();
  to_build_ = action.generation;
  build_started_ = around_.now();
  rank_to_build_ = to_build_->RankOf(id_);
  if (to_build_->members[static_cast<size_t>(rank_to_build_)].incarnation != incarnation_) {
    around_.oracle().Violate(
        fmt::format("process {} of {} builds generation {}, of which another process is a member",
                    incarnation_, id_, to_build_->number));
  }
  around_.MeetingOf(*to_build_)->Connect(rank_to_build_);
}

void Worker::StopBuilding() {
  if (!to_build_) return;
  around_.MeetingOf(*to_build_)->CancelConnect(rank_to_build_);
  to_build_.reset();
}

void Worker::Do(const DiscardBuild& action) {
  StopBuilding();
  if (built_ && built_->generation.number == action.number) built_.reset();
  if (enter_ == action.number) enter_ = 0;
}

void Worker::Do(const RevokeActive& action) {
  if (active_) active_->Revoke(action.reason);
}

void Worker::Do(const EnterGeneration& action) { enter_ = action.number; }
void Worker::Do(const SayHello&) { say_hello_ = true; }
void Worker::Do(const Leave&) {}
void Worker::Do(const SendReport& action) { Send(action.report); }

bool Worker::CanBuild() const {
  if (!to_build_ || around_.Held(id_, "build")) return false;
  if (around_.now() - build_started_ >= kConnectTimeout) return true;
  return !around_.Divided(*to_build_) && around_.MeetingOf(*to_build_)->CanComplete(rank_to_build_);
}

void Worker::Build() {
  const Generation generation = *to_build_;
  const int rank = rank_to_build_;
  const auto meeting = around_.MeetingOf(generation);
  if (!meeting->CanComplete(rank) || around_.Divided(generation)) {
    const std::vector<std::string> missing = Unreachable();
    StopBuilding();
    const std::string reason =
        fmt::format("peers that did not join within 5.0 s: {}", fmt::join(missing, ", "));
    return Carry("build failed", fmt::format("gives up generation {}", generation.number),
                 core_.OnBuildFailed(generation.number, reason, missing));
  }
  to_build_.reset();
  meeting->Connected(rank);
  built_ = Built{std::make_shared<Endpoint>(meeting, rank), generation};
  Carry("built", fmt::format("has built generation {}", generation.number),
        core_.OnBuilt(generation.number));
}

// Of the generation being built: those that do not connect, and those that cannot.
std::vector<std::string> Worker::Unreachable() const {
  const auto meeting = around_.MeetingOf(*to_build_);
  std::vector<std::string> unreachable;
  for (int peer = 0; peer < static_cast<int>(to_build_->members.size()); ++peer) {
    const std::string& id = to_build_->members[static_cast<size_t>(peer)].worker;
    const bool apart = around_.Divided(*to_build_) && around_.Silent(id, id_);
    if (peer != rank_to_build_ && (meeting->IsMissing(peer) || apart)) unreachable.push_back(id);
  }
  return unreachable;
}

std::string Worker::Describe() const {
  std::string text = fmt::format("{}: {}", id_, StageName());
  if (core_.active() != 0) {
    text += fmt::format(" generation {}{}", core_.active(), core_.broken() ? " (broken)" : "");
  }
  text += has_state_ ? fmt::format(", position {}", weights_.position()) : ", no state";
  if (core_.prepared() != 0) text += fmt::format(", votes for {}", core_.prepared());
  if (done()) text += stopped() ? ", stopped" : ", done";
  return text;
}

}  // namespace muster::scenario
