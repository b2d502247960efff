// Who is evicted: the silent, those whose step does not end, those that the network keeps from the others.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "launcher/rendezvous/coordinator.h"
#include "launcher/rendezvous/listed.h"

namespace muster {

namespace {

// A member may keep the others waiting for ten times what any step has taken so far, once these have been measured.
constexpr uint64_t kStepsToMeasure = 20;
constexpr int kTimesTheLongestStep = 10;
constexpr auto kShortestStepDeadline = std::chrono::seconds(15);
// Who cannot be connected to is asked again, later and later.
constexpr auto kShortestBar = std::chrono::seconds(2);
constexpr auto kLongestBar = std::chrono::seconds(8);

}  // namespace

Duration Coordinator::StepDeadline() const {
  if (steps_measured_ < kStepsToMeasure) return options_.step_timeout;
  const Duration patience =
      std::max<Duration>(kShortestStepDeadline, longest_step_ * kTimesTheLongestStep);
  const bool over = std::ranges::any_of(workers_, [&](const auto& entry) {
    const auto& [id, worker] = entry;
    return worker.waiting && now_ - worker.waiting_since > patience && IsActive(id, worker);
  });
  return over ? std::min(options_.step_timeout, patience) : options_.step_timeout;
}

void Coordinator::Bar(const std::string& id) {
  Worker& worker = workers_.at(id);
  worker.bar = std::clamp<Duration>(worker.bar * 2, kShortestBar, kLongestBar);
  worker.barred_until = now_ + worker.bar;
}

void Coordinator::Unbar(Worker& worker) {
  worker.bar = {};
  worker.barred_until = {};
}

void Coordinator::EvictSilent() {
  const Duration step_deadline = StepDeadline();
  const Duration two_witnesses = TimeForTwoWitnesses(options_.heartbeat_timeout);
  for (auto& [id, worker] : workers_) {
    const bool member = IsActive(id, worker);
    const auto silence = now_ - worker.last_seen;
    if (worker.awaited && silence > options_.heartbeat_timeout) {
      Lose(id, fmt::format("{} did not come back within {:.1f} s", id, Seconds(silence)),
           worker.last_seen);
    } else if ((member || InProposed(id)) && worker.registered && !worker.evicted) {
      const auto busy = now_ - worker.busy_since;
      if (silence > options_.heartbeat_timeout) {
        Evict(id, fmt::format("{} was silent for {:.1f} s", id, Seconds(silence)),
              worker.last_seen);
      } else if (member && !worker.lost_by.empty() && silence > two_witnesses) {
        Evict(id,
              fmt::format("{} was silent for {:.1f} s, and {} has lost it", id, Seconds(silence),
                          worker.lost_by),
              worker.last_seen);
      } else if (member && !worker.waiting && busy > step_deadline) {
        Evict(
            id,
            fmt::format("{} has computed for {:.1f} s without ending its step", id, Seconds(busy)),
            worker.busy_since);
        worker.hung = true;
      }
    }
    if (!worker.evicted || worker.restart_sent) continue;
    // It may get over its long step and come back, while others train. When nobody does, that is not worth waiting for.
    const auto evicted_for = now_ - worker.evicted_at;
    if (evicted_for > options_.hang_grace || (worker.hung && !state_.active)) {
      worker.restart_sent = true;
      actions_.push_back(SendAgent{id, SendAgent::Kind::kRestartWorker,
                                   fmt::format("{} did not come back {:.0f} s after its eviction",
                                               id, Seconds(evicted_for))});
    }
  }
}

// Members that the network keeps from `side`: they stop, and may join when they can be reached.
void Coordinator::CutOff(const std::vector<int>& ranks, const std::vector<int>& side) {
  std::vector<int> cut_off;
  std::ranges::set_difference(ranks, side, std::back_inserter(cut_off));
  if (cut_off.empty()) return;
  const std::vector<std::string> lost = MembersAt(cut_off);
  const std::string cause = fmt::format("the network is cut: {} cannot connect to {}", Listed(lost),
                                        Listed(MembersAt(side)));
  for (const std::string& id : lost) {
    Evict(id, cause, first_sign_);
    Bar(id);
  }
  for (const int rank : cut_off) sides_.Forget(rank);  // then it is tried again
}

}  // namespace muster
