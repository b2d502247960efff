#include "launcher/platform/kubernetes/follow_run.h"

#include <poll.h>

#include <functional>
#include <thread>
#include <utility>

#include "launcher/job/fields.h"
#include "launcher/platform/kubernetes/event_listener.h"
#include "launcher/platform/kubernetes/follow_core.h"
#include "launcher/platform/kubernetes/keep.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "launcher/platform/kubernetes/send_bundle.h"
#include "runtime/base/backoff.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr BackoffPolicy kAgain{250ms, 2000ms};
constexpr Duration kStopTime = 15s;
constexpr Duration kClearTime = 90s;
constexpr auto kLeftEvery = 250ms;

class Follower {
 public:
  Follower(const RemoteRun& run, const JobFolder& folder, JobObserver& observer,
           const SignalFd& signals, Inbox& inbox, const Sending& sending)
      : run_(run),
        folder_(folder),
        observer_(observer),
        signals_(signals),
        inbox_(inbox),
        sending_(sending),
        events_(folder),
        core_(events_.last_sequence(), sending.bundle != nullptr, sending.detach) {}

  FollowOutcome Run() {
    const auto keep = [this](const std::string& status) { KeepStatus(folder_, status); };
    std::jthread listening([&](const std::stop_token& stop) {
      EventListener(run_, events_.last_sequence(), inbox_, keep).Listen(stop);
    });
    std::jthread sending([this](const std::stop_token& stop) { Send(stop); });
    while (!over_) {
      pollfd waits[] = {{signals_.fd(), POLLIN, 0}, {inbox_.fd(), POLLIN, 0}};
      ::poll(waits, std::size(waits), -1);  // the listener's own waits have deadlines
      for (const int number : signals_.Read()) Do(core_.Signal(number, MonotonicNow()));
      for (const News& news : inbox_.Take()) Do(news(core_));
    }
    listening.request_stop();
    sending.request_stop();
    request_ = {};
    sending.join();
    listening.join();  // from here on nobody else writes into the folder
    if (!outcome_.detached) Conclude();
    return std::move(outcome_);
  }

 private:
  void Send(const std::stop_token& stop) {
    if (sending_.bundle == nullptr) return;
    const SendListener tell{
        .on_begin =
            [this](const std::string& text) {
              inbox_.Put([text](FollowCore& core) { return core.Sending(text); });
            },
        .on_sent =
            [this](const std::string& text) {
              inbox_.Put([text](FollowCore& core) { return core.Sent(text); });
            },
        .on_failed =
            [this](const Error& error) {
              inbox_.Put([error](FollowCore& core) { return core.SendFailed(error); });
            }};
    BundleSender(run_, *sending_.bundle, sending_.what, tell).Serve(stop);
  }

  void Do(const FollowCore::Actions& actions) {
    using Kind = FollowAction::Kind;
    for (const FollowAction& action : actions) {
      switch (action.kind) {
        case Kind::kNote:
          observer_.OnNote(action.text);
          break;
        case Kind::kEvent:
          events_.Add(action.text);
          observer_.OnEvent(action.text);
          break;
        case Kind::kStop:
          Ask([this](const std::stop_token& stop) { return RequestStop(stop); });
          break;
        case Kind::kDelete:
          Ask([this](const std::stop_token&) {
            return RemoveRun(run_.api(), run_.namespace_name(), run_.spec(), run_.uid());
          });
          break;
        case Kind::kDetach:
          outcome_.detached = over_ = true;
          outcome_.exit_code = core_.left_by() == 0 ? 0 : 128 + core_.left_by();
          break;
        case Kind::kEnd:
          outcome_.finished = action.text;
          over_ = true;
          break;
        case Kind::kGone:
          Substitute(core_.deleting() ? "stopped" : "failed", action.text);
          break;
        case Kind::kFailed:
          Substitute("failed", action.text);
          break;
      }
    }
  }

  // Repeats `request` until it is granted or cannot be.
  void Ask(std::function<Status(const std::stop_token&)> request) {
    request_ = std::jthread([request = std::move(request)](const std::stop_token& stop) {
      for (int attempt = 0; !stop.stop_requested(); ++attempt) {
        const Status granted = request(stop);
        if (granted || stop.stop_requested()) return;
        const Code code = granted.error().code;
        if (code == Code::kPermissionDenied || code == Code::kFailedPrecondition ||
            code == Code::kAborted) {
          log::warn("request refused error=\"{}\"", granted.error().ToString());
          return;
        }
        if (!PauseFor(kAgain.Delay(attempt), stop)) return;
      }
    });
  }

  Status RequestStop(const std::stop_token& stop) {
    MUSTER_TRY(run_.Stop(false, "stopped by SIGTERM", k8s::Within(kStopTime, stop)));
    return {};
  }

  void Substitute(const std::string& phase, const std::string& message) {
    substitute_ = {phase, message};
    over_ = true;
  }

  // Whether the run has been deleted beneath a coordinator that then calls it a failure of its own.
  bool WasDeleted() const {
    const json finished = json::parse(outcome_.finished, nullptr, false);
    if (FieldOr<std::string>(finished, "phase", "") != "failed") return false;
    const auto look = run_.Look(k8s::Within(kStopTime));
    return look && look->gone;
  }

  void Conclude() {
    if (!outcome_.finished.empty() && WasDeleted()) {
      outcome_.finished.clear();
      Substitute(core_.deleting() ? "stopped" : "failed", DeletionText(core_.deleting()));
    }
    const bool by_coordinator = !outcome_.finished.empty();
    if (!by_coordinator) {
      // A `launcher stop --now` beside us has written why.
      const auto result = ReadFile(folder_.result());
      outcome_.finished = result ? result->substr(0, result->find('\n')) : WriteSubstitute();
    } else {
      KeepEnd(folder_, run_.spec(), outcome_.finished, "");
    }
    const json finished = json::parse(outcome_.finished, nullptr, false);
    outcome_.exit_code = FieldOr(finished, "exit_code", 1);
    if (core_.ended_by() != 0 && FieldOr<std::string>(finished, "phase", "") == "stopped") {
      outcome_.exit_code = 128 + core_.ended_by();
    }
    std::stop_source enough;
    std::jthread impatience([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        pollfd wait = {signals_.fd(), POLLIN, 0};
        if (::poll(&wait, 1, 100) == 1 && !signals_.Read().empty()) enough.request_stop();
      }
    });
    if (by_coordinator) AwaitWorkers(run_, enough.get_token());
    outcome_.left = ClearRun(run_, enough.get_token());
  }

  std::string WriteSubstitute() const {
    const int exit_code = core_.ended_by() != 0 ? 128 + core_.ended_by() : 1;
    return WriteSubstituteResult(folder_, run_.spec(), substitute_.first, exit_code,
                                 substitute_.second);
  }

  const RemoteRun& run_;
  const JobFolder& folder_;
  JobObserver& observer_;
  const SignalFd& signals_;
  Inbox& inbox_;
  const Sending& sending_;
  EventFile events_;
  FollowCore core_;
  FollowOutcome outcome_;
  bool over_ = false;
  std::pair<std::string, std::string>
      substitute_;  // phase and message, where nobody else says them
  std::jthread request_;
};

}  // namespace

Result<FollowOutcome> FollowRun(const RemoteRun& run, const JobFolder& folder,
                                JobObserver& observer, const SignalFd& signals,
                                const Sending& sending) {
  MUSTER_ASSIGN(const auto inbox, Inbox::Create());
  return Follower(run, folder, observer, signals, *inbox, sending).Run();
}

void AwaitWorkers(const RemoteRun& run, const std::stop_token& stop, Duration time) {
  const TimePoint deadline = MonotonicNow() + time;
  while (MonotonicNow() < deadline) {
    const auto left = WorkersLeft(run.api(), run.namespace_name(), run.spec());
    if ((left && left->empty()) || !PauseFor(kLeftEvery, stop)) return;
  }
}

std::vector<std::string> ClearRun(const RemoteRun& run, const std::stop_token& stop) {
  const Status removed = RemoveRun(run.api(), run.namespace_name(), run.spec(), run.uid());
  if (!removed) return {fmt::format("run {} ({})", run.name(), removed.error().ToString())};
  const TimePoint deadline = MonotonicNow() + kClearTime;
  while (true) {
    auto left = WhatIsLeft(run.api(), run.namespace_name(), run.spec());
    if (left && left->empty()) return {};
    if (MonotonicNow() >= deadline || !PauseFor(kLeftEvery, stop)) {
      if (left) return std::move(*left);
      return {fmt::format("unknown things ({})", left.error().message)};
    }
  }
}

}  // namespace muster::kubernetes
