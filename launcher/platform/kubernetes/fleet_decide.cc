// What follows from all that is known.
#include <fmt/format.h>

#include <algorithm>

#include "launcher/platform/kubernetes/fleet_core.h"

namespace muster::fleet {

bool FleetCore::Due(TimePoint at) {
  if (now_ >= at) return true;
  wake_ = std::min(wake_, at);
  return false;
}

TimePoint FleetCore::Pause(const BackoffPolicy& policy, int attempt) const {
  const auto pause = policy.Delay(attempt);
  return now_ + pause + std::chrono::duration_cast<Duration>(pause * (jitter_ / 2));
}

void FleetCore::Say(const std::string& kind, const std::string& message) {
  decision_.actions.push_back(Emit{kind, message});
  if (!decision_.reason.empty()) decision_.reason += "; ";
  decision_.reason += message;
}

FleetCore::Counts FleetCore::Count(const Pool& pool) {
  Counts counts;
  for (const auto& [serial, pod] : pool.pods) {
    if (pod.state == State::kEnded) continue;
    ++counts.occupied;
    counts.waiting += pod.state != State::kRunning;
    if (Leaving(pod)) continue;
    ++counts.usable;
    counts.running += pod.state == State::kRunning;
  }
  return counts;
}

size_t FleetCore::InFlight() const {
  size_t count = 0;
  for (const Pool& pool : pools_) {
    count += std::count_if(pool.pods.begin(), pool.pods.end(), [](const auto& entry) {
      return entry.second.state == State::kAsked && !entry.second.unsure;
    });
  }
  return count;
}

bool FleetCore::TakeBrake() {
  size_t pods = 0;
  size_t wanted = 0;
  for (const Pool& pool : pools_) {
    pods += pool.pods.size();
    wanted += pool.options.pods.max;
  }
  const int allowed =
      std::max(1, static_cast<int>(options_.brake_fraction * std::max(pods, wanted)));
  if (now_ >= brake_until_) {
    brake_used_ = 0;
    brake_until_ = now_ + options_.brake_interval;
  }
  if (brake_used_ < allowed) {
    ++brake_used_;
    return true;
  }
  Due(brake_until_);
  return false;
}

void FleetCore::Decide() {
  wake_ = TimePoint::max();
  for (Pool& pool : pools_) CheckTimes(pool);
  if (stopped_) {
    EndAll(*stopped_, false);
  } else if (!failure_.empty()) {
    EndAll(failure_, true);
  } else {
    for (Pool& pool : pools_) {
      Shrink(pool);
      Withdraw(pool);
      ReplaceOutsiders(pool);
      NoteHealth(pool);
    }
    DecideGang();
    for (Pool& pool : pools_) Grow(pool);
  }
  AskForLists();
  ExplainAll();
}

void FleetCore::CheckTimes(Pool& pool) {
  for (auto& [serial, pod] : pool.pods) {
    const bool ended = pod.state == State::kEnded;
    if (pod.state == State::kAsked && !pod.unsure && Due(pod.asked_at + options_.create_timeout)) {
      MakeUnsure(pod);
    }
    if (pod.deleting && (ended || !pod.terminating) && Due(pod.delete_again)) {
      SendDelete(pod, options_.grace);
    }
    if (pod.terminating && !ended &&
        Due(pod.terminating_at + options_.grace + options_.terminating_deadline) &&
        (pod.deleting ? Due(pod.delete_again) : TakeBrake())) {
      if (!pod.deleting) pod.delete_reason = "it does not end: its node may be dead";
      SendDelete(pod, Duration::zero());
    }
    if (ended && Due(pod.ended_at + options_.finished_kept)) Delete(pod, "it has ended", true);
  }
}

void FleetCore::EndAll(const std::string& reason, bool braked) {
  for (Pool& pool : pools_) {
    for (auto& [serial, pod] : pool.pods) Delete(pod, reason, braked);
  }
}

// Victims: those that wait first, then those outside the ring, then the youngest. One whose create is not answered is a victim
// too, but must be known before it can be deleted.
void FleetCore::Shrink(Pool& pool) {
  const int surplus = Count(pool).usable - pool.options.pods.max;
  if (surplus <= 0) {
    pool.shrinking = false;
    return;
  }
  std::vector<Pod*> victims;
  for (auto& [serial, pod] : pool.pods) {
    if (pod.state != State::kEnded && !Leaving(pod)) victims.push_back(&pod);
  }
  std::reverse(victims.begin(), victims.end());
  const auto rank = [this](const Pod* pod) {
    return pod->state != State::kRunning ? 0 : IsMember(*pod) ? 2 : 1;
  };
  std::stable_sort(victims.begin(), victims.end(),
                   [&](const Pod* a, const Pod* b) { return rank(a) < rank(b); });
  victims.resize(surplus);
  int deleted = 0;
  for (Pod* pod : victims) {
    deleted +=
        Delete(*pod, fmt::format("pool {} shrinks to {}", pool.options.name, pool.options.pods.max),
               !pool.shrinking);
  }
  if (deleted > 0) {
    Say("fleet-shrink", fmt::format("pool {}: deletes {} pods, at most {} are wanted",
                                    pool.options.name, deleted, pool.options.pods.max));
  }
}

// What waits in vain must not buy a machine for a job that has long gone on without. Opportunistic pods buy none and may wait.
void FleetCore::Withdraw(Pool& pool) {
  int spared = pool.Minimum() - Count(pool).running;
  int withdrawn = 0;
  for (auto& [serial, pod] : pool.pods) {
    if (pod.state == State::kEnded || pod.state == State::kRunning || Leaving(pod)) continue;
    if (spared-- > 0) continue;
    if (!pool.Counts() && pod.view.node.empty()) continue;
    if (pod.uid.empty() || !Due(pod.asked_at + options_.unmet_deadline)) continue;
    withdrawn += Delete(
        pod,
        fmt::format("withdrawn after {:.0f} s: {}", Seconds(now_ - pod.asked_at), WhyWaiting(pod)),
        true);
  }
  if (withdrawn == 0) return;
  if (now_ >= pool.unmet_until) pool.unmet_until = Pause(options_.unmet_pause, pool.withdrawals++);
  Say("fleet-withdraw",
      fmt::format("pool {}: withdraws {} pods that waited for {:.0f} s; asks again in {:.0f} s",
                  pool.options.name, withdrawn, Seconds(options_.unmet_deadline),
                  Seconds(pool.unmet_until - now_)));
}

// A pod whose worker does not come to the ring holds a machine for nothing.
void FleetCore::ReplaceOutsiders(Pool& pool) {
  if (members_.empty()) return;
  for (auto& [serial, pod] : pool.pods) {
    if (pod.state != State::kRunning || Leaving(pod) || IsMember(pod)) continue;
    if (!Due(pod.outside_since + options_.join_deadline)) continue;
    const std::string reason = fmt::format("its worker has not been in the ring for {:.0f} s",
                                           Seconds(now_ - pod.outside_since));
    if (!Delete(pod, reason, true)) continue;
    Say("fleet-shrink", fmt::format("deletes {}: {}", pod.name, reason));
    CountCrash(pool, pod, reason);
  }
}

int FleetCore::Missing(const Pool& pool, const Counts& counts) {
  const int limit = Due(pool.unmet_until) ? pool.options.pods.max : pool.Minimum();
  const int missing = limit - counts.occupied;
  if (pool.options.growth.mode != Growth::Mode::kStep) return missing;
  return std::min(missing, pool.options.growth.step - counts.waiting);
}

void FleetCore::Grow(Pool& pool) {
  if (lists_needed_ > 0 || giving_up_ || !failure_.empty() || !pool.stopped.empty()) return;
  const Counts counts = Count(pool);
  if (counts.occupied >= pool.options.pods.max) pool.growing = false;
  const int missing = Missing(pool, counts);
  if (missing <= 0) return;
  if (Due(busy_until_) && Due(gang_retry_at_) && Due(pool.refused_until) && Due(pool.crash_until)) {
    Create(pool, missing);
  }
}

void FleetCore::Create(Pool& pool, int missing) {
  const size_t in_flight = InFlight();
  if (in_flight >= options_.max_creates_in_flight) return;
  const int count = std::min(missing, static_cast<int>(options_.max_creates_in_flight - in_flight));
  if (!pool.growing) {
    pool.growing = true;
    Say("fleet-grow", fmt::format("pool {}: asks for pods, {} of {} are missing ({})",
                                  pool.options.name, pool.options.pods.max - Count(pool).occupied,
                                  pool.options.pods.max, GrowthText(pool.options.growth)));
  }
  ReserveSerials(pool, count, missing);
  for (int i = 0; i < count; ++i) {
    const int64_t serial = pool.next_serial++;
    Pod& pod = pool.pods[serial];
    pod.name = PodName(pool, serial);
    pod.asked_at = pod.known_at = now_;
    Due(pod.asked_at + options_.create_timeout);
    decision_.actions.push_back(CreatePod{pool.options.name, serial, pod.name});
  }
}

// At once for all that are missing, so that a thousand creates are not a thousand writes.
void FleetCore::ReserveSerials(Pool& pool, int now, int soon) {
  int64_t& saved = saved_.serials[pool.options.name];
  if (pool.next_serial + now - 1 <= saved) return;
  saved = pool.next_serial + std::max<int64_t>(soon, options_.serial_block) - 1;
  decision_.actions.push_back(Persist{saved_});
}

void FleetCore::AskForLists() {
  // Its worker is lost, and nothing has been heard of the pod since: the watch may have fallen silent.
  const auto left_in_silence = [this](const Pod& pod) {
    return pod.state == State::kRunning && !Leaving(pod) && !IsMember(pod) &&
           pod.known_at < pod.outside_since && Due(pod.outside_since + options_.list_gap);
  };
  std::string reason = lists_needed_ > 0 ? "a former coordinator may have left pods" : "";
  for (const Pool& pool : pools_) {
    for (const auto& [serial, pod] : pool.pods) {
      if (!reason.empty()) break;
      if (pod.unsure) reason = fmt::format("whether {} exists is not known", pod.name);
      if (pod.absent && !IsMember(pod)) reason = fmt::format("the last list lacks {}", pod.name);
      if (left_in_silence(pod)) reason = fmt::format("{} has left the ring", pod.name);
    }
  }
  if (reason.empty() || !Due(list_due_)) return;
  decision_.actions.push_back(ListPods{reason});
  list_due_ = now_ + options_.list_timeout;
  Due(list_due_);
}

void FleetCore::ExplainAll() {
  for (Pool& pool : pools_) {
    for (auto& [serial, pod] : pool.pods) {
      if (!std::exchange(pod.changed, false)) continue;
      std::string sentence = WhyWaiting(pod);
      if (sentence == pod.explained) continue;
      pod.explained = sentence;
      decision_.actions.push_back(Explain{pod.name, std::move(sentence)});
    }
  }
}

}  // namespace muster::fleet
