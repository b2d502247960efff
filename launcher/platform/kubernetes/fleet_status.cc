// What status shows, and the sentences in it.
#include "launcher/platform/kubernetes/fleet_status.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/platform/kubernetes/fleet_core.h"

namespace muster::fleet {
namespace {

// The scheduler's "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) ..." in short: what is insufficient, if
// something is.
std::string SchedulerSays(const PodView& view) {
  constexpr std::string_view kKey = "Insufficient ";
  const std::string& message = view.unscheduled_message;
  const size_t begin = message.find(kKey);
  if (begin == std::string::npos) {
    return message.empty() ? view.unscheduled_reason
                           : fmt::format("{}: {}", view.unscheduled_reason, message);
  }
  size_t end = message.find_first_of(", ", begin + kKey.size());
  if (end == std::string::npos) end = message.size();
  if (message[end - 1] == '.') --end;
  return message.substr(begin, end - begin);
}

}  // namespace

// Empty: it does not wait.
std::string FleetCore::WhyWaiting(const Pod& pod) {
  const PodView& view = pod.view;
  if (!pod.delete_error.empty()) return fmt::format("cannot be deleted: {}", pod.delete_error);
  if (pod.state == State::kEnded || pod.state == State::kRunning) return "";
  if (pod.state == State::kAsked) {
    return pod.unsure ? "asked for, no answer came: lists will tell" : "asked for, no answer yet";
  }
  if (Leaving(pod)) return "pod Pending (being deleted)";
  if (!view.waiting_reason.empty() && view.waiting_reason != "ContainerCreating") {
    return view.waiting_message.empty()
               ? fmt::format("pod Pending ({})", view.waiting_reason)
               : fmt::format("pod Pending ({}: {})", view.waiting_reason, view.waiting_message);
  }
  if (!view.node.empty()) return fmt::format("pod Pending (starting on {})", view.node);
  if (!view.unscheduled_reason.empty()) return fmt::format("pod Pending ({})", SchedulerSays(view));
  return "pod Pending (not scheduled yet)";
}

std::string FleetCore::PoolNote(const Pool& pool) const {
  const auto pausing = [this](TimePoint until, const std::string& why) {
    return fmt::format("{}; asks again in {:.0f} s", why, Seconds(until - now_));
  };
  if (!pool.stopped.empty()) return pool.stopped;
  if (now_ < pool.refused_until) return pausing(pool.refused_until, pool.refusal);
  if (now_ < pool.crash_until) return pausing(pool.crash_until, "pods ended at once");
  if (now_ < pool.unmet_until) return pausing(pool.unmet_until, "no machines beyond the minimum");
  if (now_ < busy_until_) return pausing(busy_until_, "the API server is busy");
  return "";
}

std::optional<std::vector<StandingPod>> FleetCore::Standing() const {
  if (lists_needed_ > 0) return std::nullopt;
  std::vector<StandingPod> standing;
  for (const Pool& pool : pools_) {
    for (const auto& [serial, pod] : pool.pods) {
      if (pod.state == State::kEnded) continue;
      std::string why = pod.view.disruption;
      if (why.empty() && pod.deleting) why = pod.delete_reason;
      if (why.empty() && pod.terminating) why = "pod is being deleted";
      standing.push_back({pool.options.name, serial, std::move(why)});
    }
  }
  return standing;
}

FleetStatus FleetCore::Status() const {
  FleetStatus status;
  status.phase = done()                  ? "done"
                 : stopped_              ? "stopping"
                 : !failure_.empty()     ? "failed"
                 : lists_needed_ > 0     ? "listing"
                 : !Gathering()          ? "running"
                 : giving_up_            ? "giving up"
                 : now_ < gang_retry_at_ ? "pausing"
                                         : "starting";
  status.gang_failures = saved_.gang_failures;
  status.message = !failure_.empty() ? failure_ : stopped_.value_or(missing_);
  for (const Pool& pool : pools_) {
    const Counts counts = Count(pool);
    PoolStatus& shown = status.pools.emplace_back();
    shown.name = pool.options.name;
    shown.min = pool.options.pods.min;
    shown.max = pool.options.pods.max;
    shown.running = counts.occupied - counts.waiting;
    shown.waiting = counts.waiting;
    shown.leaving = counts.occupied - counts.usable;
    shown.note = PoolNote(pool);
    for (const auto& [serial, pod] : pool.pods) {
      shown.members += IsMember(pod);
      if (!pod.explained.empty()) status.waiting.push_back({pod.name, pod.explained});
    }
  }
  return status;
}

}  // namespace muster::fleet
