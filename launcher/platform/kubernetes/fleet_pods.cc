// One pod: what it is, what becomes of it, and how it is deleted.
#include <fmt/format.h>

#include <algorithm>

#include "launcher/platform/kubernetes/fleet_core.h"
#include "runtime/base/numbered_name.h"

namespace muster::fleet {

std::string FleetCore::PodName(const Pool& pool, int64_t serial) const {
  const std::string& part =
      pool.options.pod_part.empty() ? pool.options.name : pool.options.pod_part;
  return fmt::format("{}-{}-{}", options_.pod_prefix, part, serial);
}

// The pool and serial of a name that this run has given out.
std::optional<std::pair<FleetCore::Pool*, int64_t>> FleetCore::Ours(std::string_view name) {
  const auto numbered = NumberedName::Parse(name);
  if (!numbered) return std::nullopt;
  const int64_t serial = numbered->number;
  for (Pool& pool : pools_) {
    const auto given = saved_.serials.find(pool.options.name);
    if (given != saved_.serials.end() && serial >= 1 && serial <= given->second &&
        name == PodName(pool, serial)) {
      return std::pair(&pool, serial);
    }
  }
  return std::nullopt;
}

// None if it is unknown, or known by another uid.
FleetCore::Pod* FleetCore::Find(const std::string& name, const std::string& uid) {
  const auto ours = Ours(name);
  if (!ours) return nullptr;
  const auto found = ours->first->pods.find(ours->second);
  if (found == ours->first->pods.end()) return nullptr;
  Pod& pod = found->second;
  return pod.uid.empty() || pod.uid == uid ? &pod : nullptr;
}

// A pod of ours that is not known: of a former coordinator, or lists have lacked it. Another list must confirm it, for the news may
// be old. None if the name is taken by another uid.
FleetCore::Pod* FleetCore::Adopt(const std::string& name, const std::string& uid) {
  const auto [pool, serial] = *Ours(name);
  const auto [place, is_new] = pool->pods.try_emplace(serial);
  if (!is_new) return nullptr;
  Pod& pod = place->second;
  pod.name = name;
  pod.uid = uid;
  pod.state = State::kPending;
  pod.unsure = true;
  pod.asked_at = pod.known_at = now_;
  pool->next_serial = std::max(pool->next_serial, serial + 1);
  return &pod;
}

// News may be old: no state goes back, and nothing that has begun to terminate stops to.
void FleetCore::Look(Pool& pool, Pod& pod, const PodView& view) {
  pod.known_at = now_;
  pod.absent = false;
  if (pod.state == State::kAsked) {
    pod.state = State::kPending;
    pod.uid = view.uid;
    pod.unsure = false;
    pod.changed = true;
    pool.refusals = 0;
  }
  const State seen = view.phase == PodPhase::kPending   ? State::kPending
                     : view.phase == PodPhase::kRunning ? State::kRunning
                                                        : State::kEnded;
  if (pod.state == State::kEnded || seen < pod.state || (pod.terminating && !view.terminating)) {
    return;
  }
  const std::string disruption = view.disruption.empty() ? pod.view.disruption : view.disruption;
  pod.view = view;
  pod.view.disruption = disruption;
  pod.changed = true;
  if (view.terminating && !pod.terminating) {
    pod.terminating = true;
    pod.terminating_at = now_;
  }
  if (seen == State::kEnded) {
    NoteEnd(pool, pod, HowEnded(pod), true);
    return;
  }
  pod.state = seen;
  if (seen == State::kRunning && !pod.ran) {
    pod.ran = true;
    pod.running_at = pod.outside_since = now_;
    pool.withdrawals = 0;
  }
  if (!pod.noticed && (pod.terminating || !disruption.empty())) {
    pod.noticed = true;
    decision_.actions.push_back(
        Notice{pod.name, disruption.empty() ? "pod is being deleted" : disruption});
  }
}

void FleetCore::MakeUnsure(Pod& pod) {
  if (pod.unsure) return;
  pod.unsure = true;
  pod.known_at = now_;
  pod.changed = true;
}

// The create was not carried out.
void FleetCore::ForgetAsked(Pool& pool, int64_t serial) {
  const auto found = pool.pods.find(serial);
  if (found == pool.pods.end()) return;
  if (!found->second.explained.empty()) {
    decision_.actions.push_back(Explain{found->second.name, ""});
  }
  pool.pods.erase(found);
}

std::string FleetCore::HowEnded(const Pod& pod) {
  const PodView& view = pod.view;
  if (!view.disruption.empty()) return view.disruption;
  std::string how = view.phase == PodPhase::kSucceeded ? "pod succeeded" : "pod failed";
  if (view.signal != 0) {
    how += fmt::format(", signal {}", view.signal);
  } else if (view.exit_code) {
    how += fmt::format(", exit code {}", *view.exit_code);
  }
  if (!view.exit_reason.empty()) how += fmt::format(" ({})", view.exit_reason);
  return how;
}

// `terminal`: it shows how it ended; otherwise it has vanished.
void FleetCore::NoteEnd(Pool& pool, Pod& pod, const std::string& reason, bool terminal) {
  pod.state = State::kEnded;
  pod.ended_at = now_;
  pod.changed = true;
  members_.erase(pod.name);
  const bool shows_how = terminal && !pod.deleting;
  decision_.actions.push_back(PodLost{pod.name, pod.deleting ? pod.delete_reason : reason,
                                      terminal ? pod.view.exit_code : std::nullopt,
                                      terminal ? pod.view.signal : 0});
  if (pod.deleting || stopped_ || !failure_.empty()) return;
  const TimePoint since = pod.ran ? pod.running_at : terminal ? now_ : pod.asked_at;
  if (now_ - since >= options_.quick_end) return;
  if (pod.terminating || !pod.view.disruption.empty()) {
    // Somebody does not want it here; asking again at once would only heat the scheduler.
    pool.crash_until = std::max(pool.crash_until, Pause(options_.crash_pause, 0));
  } else {
    CountCrash(pool, pod, shows_how ? reason : "pod vanished");
  }
}

// Late news must not bring it back.
void FleetCore::Bury(const std::string& name, bool certain) {
  if (tombstones_.insert_or_assign(name, certain).second) tombstone_times_.emplace_back(now_, name);
}

void FleetCore::Remove(Pool& pool, int64_t serial, const std::string& reason) {
  const auto found = pool.pods.find(serial);
  if (found == pool.pods.end()) return;
  Pod& pod = found->second;
  const bool existed = pod.state != State::kAsked;
  if (existed && pod.state != State::kEnded) NoteEnd(pool, pod, reason, false);
  ForgetAsked(pool, serial);
}

// Pods that were asked for together and fail together are one round: only failing again and again is a loop.
void FleetCore::CountCrash(Pool& pool, const Pod& pod, const std::string& how) {
  if (pod.asked_at <= pool.crashed_at) return;
  pool.crashed_at = now_;
  pool.crash_until = Pause(options_.crash_pause, pool.crashes++);
  if (pool.crashes < options_.crash_limit) return;
  pool.stopped =
      fmt::format("pool {} asks for no more pods: {} rounds of them ended at once, {} with: {}",
                  pool.options.name, pool.crashes, pod.name, how);
  Say("fleet-crash-loop", pool.stopped);
}

// One that was asked for after the last crash and trains has proven that pods of this pool can.
void FleetCore::NoteHealth(Pool& pool) {
  if (pool.crashes == 0 || !pool.stopped.empty()) return;
  for (const auto& [serial, pod] : pool.pods) {
    if (pod.state == State::kRunning && pod.asked_at > pool.crashed_at && IsMember(pod) &&
        Due(pod.running_at + options_.quick_end)) {
      pool.crashes = 0;
      return;
    }
  }
}

// Whether the deletion has begun by this.
bool FleetCore::Delete(Pod& pod, const std::string& reason, bool braked) {
  if (pod.uid.empty() || pod.deleting) return false;
  if (pod.terminating && pod.state != State::kEnded) return false;
  if (braked && !TakeBrake()) return false;
  pod.deleting = true;
  pod.delete_reason = reason;
  if (pod.state == State::kRunning && !pod.noticed) {
    pod.noticed = true;
    decision_.actions.push_back(Notice{pod.name, reason});
  }
  SendDelete(pod, options_.grace);
  return true;
}

void FleetCore::SendDelete(Pod& pod, std::optional<Duration> grace) {
  pod.deleting = true;
  pod.changed = true;
  pod.delete_again = now_ + options_.delete_timeout;
  Due(pod.delete_again);
  decision_.actions.push_back(DeletePod{pod.name, pod.uid, pod.delete_reason, grace});
}

}  // namespace muster::fleet
