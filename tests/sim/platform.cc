#include "tests/sim/platform.h"

#include <fmt/format.h>

#include <iterator>
#include <vector>

namespace muster::sim {

void Platform::Live(bool at_once) {
  const bool settle = at_once || dice_.OneIn(6);
  const bool remove = at_once || dice_.OneIn(20);
  const bool offer = at_once || dice_.OneIn(4);
  if (settle || remove || offer) ForgetEnded();
  if (settle) Settle();
  if (remove) RemoveLeaving();
  if (offer) Offer();
}

void Platform::Clear() {
  while (!pods_.empty()) Remove(std::string(pods_.begin()->first));
}

void Platform::Fault() {
  ForgetEnded();
  if (pods_.empty()) return;
  const auto victim = std::next(pods_.begin(), static_cast<int>(dice_.Below(pods_.size())));
  if (dice_.OneIn(3)) return Remove(std::string(victim->first));
  victim->second = true;
  if (dice_.OneIn(2)) Offer();
}

void Platform::ForgetEnded() {
  std::erase_if(pods_, [&](const auto& pod) {
    return !world_.agent_runs(pod.first) && world_.WasSpawned(pod.first);
  });
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
  std::vector<std::string> leaving;
  for (const auto& [pod, leaves] : pods_) {
    if (leaves) leaving.push_back(pod);
  }
  for (const std::string& pod : leaving) Remove(pod);
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
