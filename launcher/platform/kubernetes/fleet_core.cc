#include "launcher/platform/kubernetes/fleet_core.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::fleet {

FleetCore::FleetCore(FleetOptions options, FleetSaved saved)
    : options_(std::move(options)), saved_(std::move(saved)) {
  // Whoever has given out a serial may have left pods behind.
  lists_needed_ = saved_.serials.empty() ? 0 : 2;
  for (const PoolOptions& pool : options_.pools) {
    pools_.emplace_back().options = pool;
    const auto given = saved_.serials.find(pool.name);
    if (given != saved_.serials.end()) pools_.back().next_serial = given->second + 1;
  }
}

FleetDecision FleetCore::Handle(const FleetEvent& event, TimePoint now, double jitter) {
  now_ = now;
  jitter_ = jitter;
  while (!tombstone_times_.empty() &&
         now - tombstone_times_.front().first > options_.tombstone_kept) {
    tombstones_.erase(tombstone_times_.front().second);
    tombstone_times_.pop_front();
  }
  std::visit([this](const auto& what) { On(what); }, event);
  Decide();
  return std::exchange(decision_, {});
}

void FleetCore::On(const PodSeen& event) {
  if (event.pod.run != options_.run || tombstones_.contains(event.pod.name)) return;
  const auto ours = Ours(event.pod.name);
  if (!ours) return;
  Pod* pod = Find(event.pod.name, event.pod.uid);
  if (pod == nullptr) pod = Adopt(event.pod.name, event.pod.uid);
  if (pod != nullptr) Look(*ours->first, *pod, event.pod);
}

void FleetCore::On(const PodGone& event) {
  const auto ours = Ours(event.name);
  if (!ours || Find(event.name, event.uid) == nullptr) return;
  Bury(event.name, true);
  Remove(*ours->first, ours->second, "it was deleted");
}

void FleetCore::On(const PodsListed& event) {
  std::set<std::string> listed;
  for (const PodView& view : event.pods) {
    const auto ours = Ours(view.name);
    if (view.run != options_.run || !ours) continue;
    const auto grave = tombstones_.find(view.name);
    if (grave != tombstones_.end()) {
      if (grave->second) continue;
      tombstones_.erase(grave);
    }
    listed.insert(view.name);
    Pod* pod = Find(view.name, view.uid);
    if (pod != nullptr) {
      pod->unsure = false;
    } else {
      pod = Adopt(view.name, view.uid);
    }
    if (pod != nullptr) Look(*ours->first, *pod, view);
  }
  LookForAbsent(listed, event.asked);
  const bool first = listed_at_ == TimePoint::min();
  if (first || event.asked >= listed_at_ + options_.list_gap) {
    lists_needed_ = std::max(0, lists_needed_ - 1);
    listed_at_ = now_;
  }
  list_due_ = now_ + options_.list_gap;
}

// One list is no proof: it may come from a cache that is behind, or be empty because something broke. And while its worker takes
// part in training, a pod is there whatever lists say.
void FleetCore::LookForAbsent(const std::set<std::string>& listed, TimePoint asked) {
  int known = 0;
  int doubted = 0;
  int lost = 0;
  for (Pool& pool : pools_) {
    std::vector<int64_t> gone;
    for (auto& [serial, pod] : pool.pods) {
      ++known;
      const bool in_flight = pod.state == State::kAsked && !pod.unsure;
      if (listed.contains(pod.name) || in_flight || asked < pod.known_at) continue;
      if (!pod.absent) {
        pod.absent = true;
        pod.absent_at = now_;
        ++doubted;
      } else if (asked >= pod.absent_at + options_.list_gap && !IsMember(pod)) {
        gone.push_back(serial);
      }
    }
    for (const int64_t serial : gone) {
      ++lost;
      if (pool.pods[serial].state != State::kAsked) Bury(pool.pods[serial].name, false);
      Remove(pool, serial, "two lists in a row lack it");
    }
  }
  const int many = std::max(1, static_cast<int>(options_.brake_fraction * known));
  if (doubted > many) {
    Say("fleet-list",
        fmt::format("a list lacks {} of {} pods; only a second one is believed", doubted, known));
  }
  if (lost > many) {
    Say("fleet-list", fmt::format("two lists agree that {} of {} pods are gone", lost, known));
  }
}

void FleetCore::On(const MemberJoined& event) {
  if (tombstones_.contains(event.pod)) return;
  const auto ours = Ours(event.pod);
  if (!ours) return;
  const auto found = ours->first->pods.find(ours->second);
  if (found != ours->first->pods.end() && found->second.state == State::kEnded) return;
  members_.insert(event.pod);
}

void FleetCore::On(const MemberLeft& event) {
  if (members_.erase(event.pod) == 0) return;
  const auto ours = Ours(event.pod);
  const auto found = ours->first->pods.find(ours->second);
  if (found != ours->first->pods.end()) found->second.outside_since = now_;
}

void FleetCore::On(const CreateAnswered& event) {
  using Result = CreateAnswered::Result;
  const auto ours = Ours(event.name);
  if (!ours || tombstones_.contains(event.name)) return;
  auto& [pool, serial] = *ours;
  const auto found = pool->pods.find(serial);
  Pod* pod = found == pool->pods.end() ? nullptr : &found->second;
  if (pod != nullptr && pod->state != State::kAsked) return;  // seen before the answer came
  switch (event.result) {
    case Result::kOk:
    case Result::kExistsOurs:
      if (event.uid.empty()) {
        if (pod != nullptr) MakeUnsure(*pod);
        return;
      }
      if (pod == nullptr) pod = Adopt(event.name, event.uid);
      pod->unsure = false;
      pod->uid = event.uid;
      pod->state = State::kPending;
      pod->known_at = now_;
      pod->absent = false;
      pod->changed = true;
      pool->refusals = 0;
      return;
    case Result::kUnknown:
      if (pod != nullptr) MakeUnsure(*pod);
      return;
    case Result::kBusy:
      busy_until_ = std::max(busy_until_, now_ + event.retry_after);
      break;
    case Result::kExistsForeign:
      Refused(*pool, fmt::format("a pod {} exists that is not ours", event.name));
      break;
    case Result::kRefused:
      Refused(*pool, event.message);
      break;
  }
  ForgetAsked(*pool, serial);
}

void FleetCore::Refused(Pool& pool, const std::string& message) {
  if (now_ < pool.refused_until) return;  // of the same round
  pool.refused_until = Pause(options_.refused, pool.refusals++);
  if (pool.refusal != message || pool.refusals == 1) {
    Say("fleet-grow", fmt::format("pool {}: no more pods for now: {}", pool.options.name, message));
  }
  pool.refusal = message;
}

void FleetCore::On(const DeleteAnswered& event) {
  using Result = DeleteAnswered::Result;
  Pod* pod = Find(event.name, event.uid);
  if (pod == nullptr || pod->state == State::kAsked) return;
  pod->changed = true;
  switch (event.result) {
    case Result::kOk:
      if (!pod->terminating) pod->terminating_at = now_;
      pod->terminating = true;
      pod->delete_error.clear();
      return;
    case Result::kNotFound: {
      const auto ours = Ours(event.name);
      Bury(event.name, true);
      Remove(*ours->first, ours->second, "it was deleted");
      return;
    }
    case Result::kBusy:
      pod->delete_again = now_ + event.retry_after;
      busy_until_ = std::max(busy_until_, now_ + event.retry_after);
      return;
    case Result::kFailed:
      pod->delete_error = event.message;
      return;
  }
}

void FleetCore::On(const Resized& event) {
  for (Pool& pool : pools_) {
    const auto found = event.pods.find(pool.options.name);
    if (found == event.pods.end()) continue;
    pool.options.pods = found->second;
    pool.shrinking = Count(pool).usable > pool.options.pods.max;
    // The user knows more than we do: what was given up is tried again.
    pool.stopped.clear();
    pool.crashes = pool.withdrawals = pool.refusals = 0;
    pool.crash_until = pool.unmet_until = pool.refused_until = now_;
    pool.growing = false;
  }
  gang_retry_at_ = now_;
  if (!giving_up_) gathering_since_.reset();
}

void FleetCore::On(const Stopped& event) {
  if (!stopped_) Say("fleet-shrink", fmt::format("all pods are deleted: {}", event.reason));
  stopped_ = event.reason;
}

bool FleetCore::done() const {
  if (!stopped_ && failure_.empty()) return false;
  return lists_needed_ == 0 && std::all_of(pools_.begin(), pools_.end(),
                                           [](const Pool& pool) { return pool.pods.empty(); });
}

}  // namespace muster::fleet
