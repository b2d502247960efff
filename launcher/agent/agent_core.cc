#include "launcher/agent/agent_core.h"

#include <algorithm>

namespace muster {

bool AgentCore::RestartsAfter(int exit_code) {
  // 0: done, or not needed. 2 and 6: the configuration or the checkpoint is at fault, and would be again.
  return exit_code != 0 && exit_code != 2 && exit_code != 6;
}

std::vector<AgentAction> AgentCore::StartNow() {
  state_ = State::kIdle;
  restart_at_once_ = false;
  deadline_.reset();
  return {AgentAction::kStartWorker};
}

std::vector<AgentAction> AgentCore::Start(TimePoint) { return StartNow(); }

void AgentCore::WorkerStarted(TimePoint now) {
  state_ = State::kRunning;
  started_ = now;
}

std::vector<AgentAction> AgentCore::WorkerEnded(int exit_code, TimePoint now) {
  deadline_.reset();
  if (leaving_) {
    state_ = State::kDone;
    return {AgentAction::kExit};
  }
  if (drain_end_) return ShutDown(now);  // a new one would not get far
  if (restart_at_once_) return StartNow();
  if (!RestartsAfter(exit_code)) {
    state_ = State::kHeld;
    return {};
  }
  const bool was_healthy = state_ == State::kRunning && now - started_ >= policy_.healthy_after;
  if (was_healthy) crashes_ = 0;
  state_ = State::kWaiting;
  deadline_ = now + policy_.restart.Delay(crashes_++);
  return {};
}

std::vector<AgentAction> AgentCore::RestartWorker(TimePoint) {
  if (state_ == State::kHeld || state_ == State::kWaiting) return StartNow();
  if (state_ != State::kRunning) return {};
  state_ = State::kKilling;
  restart_at_once_ = true;
  return {AgentAction::kKill};
}

std::vector<AgentAction> AgentCore::ShutDown(TimePoint now) {
  if (leaving_) return {};
  leaving_ = true;
  if (state_ == State::kKilling) return {};
  if (state_ != State::kRunning) {
    state_ = State::kDone;
    return {AgentAction::kExit};
  }
  state_ = State::kLeaving;
  deadline_ = now + policy_.leave_time;
  return {};
}

std::vector<AgentAction> AgentCore::ShutDownNow() {
  if (state_ == State::kDone) return {};
  leaving_ = true;
  deadline_.reset();
  const bool worker_exists = state_ == State::kRunning || state_ == State::kLeaving ||
                             state_ == State::kStopping || state_ == State::kKilling;
  if (worker_exists) {
    state_ = State::kKilling;
    return {AgentAction::kKill};
  }
  state_ = State::kDone;
  return {AgentAction::kExit};
}

std::vector<AgentAction> AgentCore::Drain(TimePoint now) {
  if (state_ != State::kRunning) return ShutDown(now);
  if (!drain_end_) drain_end_ = now + policy_.drain_time;
  return {};
}

std::optional<TimePoint> AgentCore::next_deadline() const {
  if (!drain_end_ || leaving_) return deadline_;
  return std::min(deadline_.value_or(*drain_end_), *drain_end_);
}

std::vector<AgentAction> AgentCore::Tick(TimePoint now) {
  if (drain_end_ && now >= *drain_end_ && !leaving_) return ShutDown(now);
  if (!deadline_ || now < *deadline_) return {};
  deadline_.reset();
  if (state_ == State::kWaiting) return StartNow();
  if (state_ == State::kLeaving) {
    state_ = State::kStopping;
    deadline_ = now + policy_.grace;
    return {AgentAction::kTerminate};
  }
  if (state_ != State::kStopping) return {};
  state_ = State::kKilling;
  return {AgentAction::kKill};
}

}  // namespace muster
