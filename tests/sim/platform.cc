#include "tests/sim/platform.h"

#include <fmt/format.h>

#include <iterator>

namespace muster::sim {

void Platform::Live(bool at_once) {
  std::erase_if(pods_, [&](const auto& pod) {
    return world_.WasSpawned(pod.first) && !world_.agent_runs(pod.first);
  });
  if (at_once || dice_.OneIn(6)) Settle();
  if (at_once || dice_.OneIn(20)) RemoveLeaving();
  if (at_once || dice_.OneIn(4)) Offer();
}

void Platform::Clear() {
  for (const auto& [pod, leaving] : std::map(pods_)) Remove(pod);
}

void Platform::Fault() {
  if (pods_.empty()) return;
  const auto victim = std::next(pods_.begin(), static_cast<int>(dice_.Below(pods_.size())));
  if (dice_.OneIn(3)) return Remove(std::string(victim->first));
  victim->second = true;
  if (dice_.OneIn(2)) Offer();
}

// As many as are wanted.
void Platform::Settle() {
  int standing = 0;
  for (auto& [pod, leaving] : pods_) {
    if (!leaving && ++standing > world_.durable().max_workers) leaving = true;
  }
  for (; standing < world_.durable().max_workers; ++standing) {
    pods_[fmt::format("w-{}", next_++)] = false;
  }
}

void Platform::RemoveLeaving() {
  for (const auto& [pod, leaving] : std::map(pods_)) {
    if (leaving) Remove(pod);
  }
}

void Platform::Remove(const std::string& pod) {
  if (world_.agent_runs(pod)) world_.KillAgent(pod);
  world_.Bar(pod);
  pods_.erase(pod);
}

void Platform::Offer() {
  SlotsOffered offer;
  for (const auto& [pod, leaving] : pods_) {
    if (leaving) {
      offer.leaving[pod] = "evicted";
    } else {
      offer.slots.push_back(pod);
    }
  }
  world_.Tell(offer);
}

}  // namespace muster::sim
