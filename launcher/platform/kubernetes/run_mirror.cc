#include "launcher/platform/kubernetes/run_mirror.h"

#include <algorithm>

#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/backoff.h"
#include "runtime/base/files.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

constexpr std::chrono::milliseconds kEventPeriod{500};
constexpr std::chrono::seconds kStatusPeriod{5};
constexpr std::chrono::seconds kWriteTimeout{10};
constexpr size_t kMaxEvents = 1000;
constexpr std::chrono::seconds kResultTimeout{30};
constexpr BackoffPolicy kResultPause{std::chrono::milliseconds(200), std::chrono::seconds(5)};

// What else the server refuses now it may take later.
bool IsForGood(Code code) {
  return code == Code::kFailedPrecondition || code == Code::kNotFound ||
         code == Code::kInvalidArgument;
}

// The newest events that fit.
std::string NewestEvents(JobControl& control) {
  const uint64_t next = control.NextEvent();
  const uint64_t first = next > kMaxEvents ? next - kMaxEvents : 1;
  std::vector<std::string> lines = control.ReadEvents(first, kMaxEvents);
  size_t bytes = 0;
  size_t from = lines.size();
  while (from > 0 && bytes + lines[from - 1].size() + 1 <= kMaxEventBytes) {
    bytes += lines[--from].size() + 1;
  }
  std::string text;
  for (; from < lines.size(); ++from) text += lines[from] + "\n";
  return text;
}

}  // namespace

RunMirror::RunMirror(RunRecord& record, JobControl& control, Told told)
    : record_(record),
      control_(control),
      told_(std::move(told)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

std::map<std::string, std::string> RunMirror::Changes() {
  std::map<std::string, std::string> changes{{std::string(kStatusKey), control_.StatusText()}};
  if (const uint64_t next = control_.NextEvent(); next != written_events_) {
    written_events_ = next;
    changes[std::string(kEventsKey)] = NewestEvents(control_);
  }
  return changes;
}

void RunMirror::Run(const std::stop_token& stop) {
  TimePoint status_due{};
  while (!stop.stop_requested()) {
    const TimePoint now = MonotonicNow();
    if (now >= status_due || control_.NextEvent() != written_events_) {
      status_due = now + kStatusPeriod;
      const Status written = record_.Put(Changes(), now + kWriteTimeout, stop);
      if (!written) written_events_ = 0;
      if (!stop.stop_requested()) told_(written);
    }
    PauseFor(kEventPeriod, stop);
  }
}

Status RunMirror::Finish(const std::string& finished, TimePoint deadline) {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  for (int attempt = 0;; ++attempt) {
    auto changes = Changes();
    changes[std::string(kResultKey)] = finished;
    const Status written =
        record_.Put(changes, std::min(deadline, MonotonicNow() + kResultTimeout));
    if (written || IsForGood(written.error().code)) return written;
    told_(written);
    const Duration pause = kResultPause.Delay(attempt);
    if (MonotonicNow() + pause >= deadline) return written;
    PauseFor(pause, {});
  }
}

Status RestoreMirrored(const RunRecord& record, const JobFolder& folder) {
  const auto restore = [&](std::string_view key, const std::filesystem::path& to) -> Status {
    const std::string* const found = record.Find(key);
    return found == nullptr ? Status() : WriteFileAtomically(to, *found);
  };
  MUSTER_TRY(restore(kEventsKey, folder.events()));
  return restore(kStatusKey, folder.status());
}

}  // namespace muster::kubernetes
