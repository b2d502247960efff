#include "launcher/platform/kubernetes/event_listener.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/job/fields.h"
#include "runtime/base/backoff.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr BackoffPolicy kAgain{250ms, 2000ms};
constexpr Duration kOpenTime = 15s;    // until a stream begins
constexpr Duration kLookTime = 15s;    // for all that a look asks
constexpr Duration kStatusTime = 10s;  // for one status
constexpr Duration kLastStatusTime = 2s;
constexpr Duration kSilence = 20s;  // the coordinator says something every 5 s
constexpr Duration kStatusEvery = 1s;
// A status has a line for each worker; of a large job it is asked less often.
constexpr double kStatusBytesPerSecond = 64 << 10;
constexpr size_t kLongestLine = size_t{16} << 20;

// "GET https://...: why" without the request.
std::string Reason(const std::string& message) {
  const size_t end = message.find(": ");
  return message.starts_with("GET ") && end != message.npos ? message.substr(end + 2) : message;
}

}  // namespace

Result<std::unique_ptr<Inbox>> Inbox::Create() {
  MUSTER_ASSIGN(WakeFd wake, WakeFd::Create());
  return std::unique_ptr<Inbox>(new Inbox(std::move(wake)));
}

void Inbox::Put(News news) {
  {
    const std::lock_guard lock(mutex_);
    news_.push_back(std::move(news));
  }
  wake_.Notify();
}

std::deque<News> Inbox::Take() {
  wake_.Clear();
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, {});
}

void EventListener::Listen(const std::stop_token& stop) {
  for (int attempt = 0; !stop.stop_requested();) {
    const Status ended = ReadEvents(stop);
    if (finished_ || stop.stop_requested()) return;
    const bool was_open = std::exchange(open_, false);
    if (was_open) attempt = 0;
    const std::string why = ended ? "it ended the stream" : Reason(ended.error().message);
    inbox_.Put([why](FollowCore& core) { return core.Cut(why); });
    // A stream may be cut for many reasons; the first new attempt tells whether there is anything to explain.
    if (!was_open) Look(stop);
    if (!PauseFor(kAgain.Delay(attempt++), stop)) return;
  }
}

Status EventListener::ReadEvents(const std::stop_token& stop) {
  MUSTER_ASSIGN(const auto stream, run_.Events(last_, true, k8s::Within(kOpenTime, stop)));
  open_ = true;
  inbox_.Put([](FollowCore& core) { return core.Connected(); });
  TimePoint heard = MonotonicNow();
  TimePoint status_due = heard;
  std::string rest;
  while (!finished_) {
    if (MonotonicNow() >= status_due) status_due = MonotonicNow() + AskStatus(stop, kStatusTime);
    auto bytes = stream->Read(status_due);
    if (!bytes && bytes.error().code == Code::kDeadlineExceeded) {
      if (MonotonicNow() - heard < kSilence) continue;
      return Err(Code::kDeadlineExceeded, "it said nothing for {:.0f} s", Seconds(kSilence));
    }
    if (!bytes) return tl::unexpected(bytes.error());
    if (bytes->empty()) return {};
    heard = MonotonicNow();
    rest += *bytes;
    TakeLines(&rest, stop);
    if (rest.size() > kLongestLine) return Err(Code::kDataLoss, "a line without an end");
  }
  return {};
}

void EventListener::TakeLines(std::string* text, const std::stop_token& stop) {
  size_t begin = 0;
  for (size_t end; (end = text->find('\n', begin)) != text->npos; begin = end + 1) {
    const std::string line = text->substr(begin, end - begin);
    if (line.empty()) continue;  // nothing has happened for a while
    const json event = json::parse(line, nullptr, false);
    last_ = std::max(last_, FieldOr<uint64_t>(event, "sequence", 0));
    finished_ |= FieldOr<std::string>(event, "event", "") == "finished";
    // The last chance to learn how each worker ended.
    if (finished_) AskStatus(stop, kLastStatusTime);
    inbox_.Put([line](FollowCore& core) { return core.Line(line); });
  }
  text->erase(0, begin);
}

Duration EventListener::AskStatus(const std::stop_token& stop, Duration time) {
  const auto status = run_.Status(k8s::OnceWithin(time, stop));
  if (!status) return kStatusEvery;  // the stream tells what is wrong
  const std::string text = status->dump(-1, ' ', false, json::error_handler_t::replace);
  keep_status_(text);
  inbox_.Put([line = ProgressOf(*status)](FollowCore& core) { return core.Line(line); });
  const auto by_size =
      std::chrono::duration<double>(static_cast<double>(text.size()) / kStatusBytesPerSecond);
  return std::max(kStatusEvery, std::chrono::duration_cast<Duration>(by_size));
}

void EventListener::Look(const std::stop_token& stop) {
  auto look = run_.Look(k8s::Within(kLookTime, stop));
  if (stop.stop_requested()) return;
  if (!look) {
    inbox_.Put([error = look.error()](FollowCore& core) { return core.LookFailed(error); });
    return;
  }
  if (!look->status.empty()) keep_status_(look->status);
  inbox_.Put([look = std::move(*look)](FollowCore& core) { return core.Looked(look); });
}

}  // namespace muster::kubernetes
