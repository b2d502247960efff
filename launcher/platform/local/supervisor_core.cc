#include "launcher/platform/local/supervisor_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace muster {

using Kind = SupervisorAction::Kind;

void SupervisorCore::Add(Kind kind, const std::string& slot) { actions_.push_back({kind, slot}); }

SupervisorCore::Actions SupervisorCore::Take() { return std::exchange(actions_, {}); }

SupervisorCore::Actions SupervisorCore::Start(const std::vector<std::string>& slots,
                                              TimePoint now) {
  StartCoordinator(now);
  for (const std::string& name : slots) StartAgent(name, slots_[name], now);
  return Take();
}

void SupervisorCore::StartCoordinator(TimePoint now) {
  coordinator_running_ = true;
  coordinator_started_ = now;
  coordinator_start_at_.reset();
  Add(Kind::kStartCoordinator);
}

void SupervisorCore::StartAgent(const std::string& name, Slot& slot, TimePoint now) {
  slot.running = true;
  slot.unwanted_meanwhile = false;
  slot.started = now;
  slot.start_at.reset();
  Add(Kind::kStartAgent, name);
}

SupervisorCore::Actions SupervisorCore::CoordinatorEnded(TimePoint now) {
  coordinator_running_ = false;
  if (phase_ != Phase::kSupervising) {
    // Nobody orders the agents to leave any more.
    if (phase_ == Phase::kDraining) phase_end_ = now;
    Advance(now);
    return Take();
  }
  deaths_.push_back(now);
  while (now - deaths_.front() > policy_.coordinator_death_window) deaths_.pop_front();
  if (deaths_.size() >= policy_.coordinator_death_limit) {
    failure_ = fmt::format("the coordinator died {} times within {:.0f} s without progress",
                           deaths_.size(), Seconds(policy_.coordinator_death_window));
    return Kill(now);
  }
  if (now - coordinator_started_ >= policy_.coordinator_healthy_after) coordinator_attempt_ = 0;
  const Duration pause = coordinator_attempt_ == 0
                             ? Duration::zero()
                             : policy_.coordinator_restart.Delay(coordinator_attempt_ - 1);
  ++coordinator_attempt_;
  coordinator_start_at_ = now + pause;
  return Tick(now);
}

SupervisorCore::Actions SupervisorCore::AgentEnded(const std::string& name, bool ordered,
                                                   TimePoint now) {
  Slot& slot = slots_[name];
  slot.running = false;
  slot.end_at.reset();
  if (phase_ != Phase::kSupervising) {
    Advance(now);
    return Take();
  }
  if (!slot.wanted) {
    slots_.erase(name);
    return {};
  }
  if (slot.unwanted_meanwhile) {
    StartAgent(name, slot, now);
    return Take();
  }
  // The coordinator told it to go and wants it no more (a crash loop), although it has not said so yet.
  if (ordered) return {};
  if (now - slot.started >= policy_.agent_healthy_after) slot.deaths = 0;
  slot.start_at = now + policy_.agent_restart.Delay(slot.deaths++);
  return {};
}

SupervisorCore::Actions SupervisorCore::SlotsWanted(const std::vector<std::string>& names,
                                                    TimePoint now) {
  if (phase_ != Phase::kSupervising) return {};
  const std::set<std::string> wanted(names.begin(), names.end());
  for (auto& [name, slot] : slots_) {
    if (!wanted.contains(name)) Unwant(slot, now);
  }
  std::erase_if(slots_,
                [](const auto& entry) { return !entry.second.wanted && !entry.second.running; });
  for (const std::string& name : wanted) Want(name, slots_[name], now);
  return Take();
}

void SupervisorCore::Unwant(Slot& slot, TimePoint now) {
  if (!slot.wanted) return;
  slot.wanted = false;
  if (slot.running) slot.end_at = now + policy_.drain_time;
}

void SupervisorCore::Want(const std::string& name, Slot& slot, TimePoint now) {
  slot.unwanted_meanwhile |= !slot.wanted && slot.running;
  slot.wanted = true;
  if (!slot.running && !slot.start_at) StartAgent(name, slot, now);
}

SupervisorCore::Actions SupervisorCore::Finished(TimePoint now) {
  if (phase_ != Phase::kSupervising) return {};
  phase_ = Phase::kDraining;
  phase_end_ = coordinator_running_ ? now + policy_.drain_time : now;
  Advance(now);
  return Take();
}

void SupervisorCore::StopRequested(TimePoint now) { stop_by_ = now + policy_.stop_time; }

SupervisorCore::Actions SupervisorCore::Kill(TimePoint now) {
  if (phase_ != Phase::kDone && phase_ != Phase::kKilling) KillAll(now);
  return Take();
}

void SupervisorCore::KillAll(TimePoint now) {
  phase_ = Phase::kKilling;
  phase_end_ = now + policy_.end_time;
  Add(Kind::kKillAll);
  Advance(now);
}

bool SupervisorCore::AgentsRunning() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const auto& entry) { return entry.second.running; });
}

// Takes every step of the way out that is due.
void SupervisorCore::Advance(TimePoint now) {
  const bool expired = phase_end_ && now >= *phase_end_;
  if (phase_ == Phase::kDraining && (expired || !AgentsRunning())) {
    phase_ = Phase::kEndingAgents;
    phase_end_ = now + policy_.end_time;
    for (const auto& [name, slot] : slots_) {
      if (slot.running) Add(Kind::kTerminateAgent, name);
    }
    Advance(now);
  } else if (phase_ == Phase::kEndingAgents && !AgentsRunning()) {
    phase_ = Phase::kEndingCoordinator;
    phase_end_ = now + policy_.end_time;
    if (coordinator_running_) Add(Kind::kTerminateCoordinator);
    Advance(now);
  } else if (phase_ == Phase::kEndingCoordinator && !coordinator_running_) {
    phase_ = Phase::kDone;
    Add(Kind::kDone);
  } else if (phase_ == Phase::kKilling &&
             (expired || (!coordinator_running_ && !AgentsRunning()))) {
    phase_ = Phase::kDone;
    Add(Kind::kDone);
  } else if (expired && (phase_ == Phase::kEndingAgents || phase_ == Phase::kEndingCoordinator)) {
    KillAll(now);
  }
}

SupervisorCore::Actions SupervisorCore::Tick(TimePoint now) {
  if (phase_ != Phase::kSupervising) {
    if (phase_end_ && now >= *phase_end_) Advance(now);
    return Take();
  }
  if (stop_by_ && now >= *stop_by_) {
    failure_ = fmt::format("the job did not stop within {:.0f} s and was killed",
                           Seconds(policy_.stop_time));
    return Kill(now);
  }
  if (coordinator_start_at_ && now >= *coordinator_start_at_) StartCoordinator(now);
  for (auto& [name, slot] : slots_) {
    if (slot.start_at && now >= *slot.start_at) StartAgent(name, slot, now);
    if (slot.end_at && now >= *slot.end_at) {
      slot.end_at.reset();
      Add(Kind::kTerminateAgent, name);
    }
  }
  return Take();
}

std::optional<TimePoint> SupervisorCore::next_deadline() const {
  if (phase_ == Phase::kDone) return std::nullopt;
  if (phase_ != Phase::kSupervising) return phase_end_;
  std::optional<TimePoint> next = coordinator_start_at_;
  const auto consider = [&](const std::optional<TimePoint>& at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(stop_by_);
  for (const auto& [name, slot] : slots_) {
    consider(slot.start_at);
    consider(slot.end_at);
  }
  return next;
}

}  // namespace muster
