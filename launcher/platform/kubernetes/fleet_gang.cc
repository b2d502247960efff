// The start: all of the minimum together or not at all, and never machines that wait for the rest without end.
#include <fmt/format.h>

#include <algorithm>

#include "launcher/platform/kubernetes/fleet_core.h"

namespace muster::fleet {

// Before the first ring, members of opportunistic pools do not count. Afterwards the ring goes on with whoever is left.
bool FleetCore::Gathering() const {
  int required = 0;
  bool counted_member = false;
  for (const Pool& pool : pools_) {
    required += pool.Minimum();
    if (!pool.Counts()) continue;
    counted_member |= std::any_of(pool.pods.begin(), pool.pods.end(),
                                  [this](const auto& entry) { return IsMember(entry.second); });
  }
  if (required == 0) return false;
  return saved_.started ? members_.empty() : !counted_member;
}

void FleetCore::DecideGang() {
  if (!Gathering()) {
    ClearStart();
  } else if (giving_up_) {
    GiveUpStart();
  } else if (!StartBlocked()) {
    if (!gathering_since_) gathering_since_ = std::max(now_, gang_retry_at_);
    if (!Due(*gathering_since_ + options_.gang_deadline)) return;
    missing_ = MissingSentence();
    ++saved_.gang_failures;
    decision_.actions.push_back(Persist{saved_});
    if (saved_.gang_failures > options_.gang_retries) {
      Fail(fmt::format("no start in {} attempts of {:.0f} s each: {}", saved_.gang_failures,
                       Seconds(options_.gang_deadline), missing_));
      return;
    }
    giving_up_ = true;
    gang_retry_at_ = Pause(options_.gang_pause, saved_.gang_failures - 1);
    Say("fleet-start",
        fmt::format("gives up a start after {:.0f} s and tries again in {:.0f} s: {}",
                    Seconds(options_.gang_deadline), Seconds(gang_retry_at_ - now_), missing_));
    GiveUpStart();
  }
}

void FleetCore::ClearStart() {
  if (giving_up_ || gathering_since_) gang_retry_at_ = now_;
  giving_up_ = false;
  gathering_since_.reset();
  if (members_.empty() || (saved_.started && saved_.gang_failures == 0)) return;
  saved_.started = true;
  saved_.gang_failures = 0;
  decision_.actions.push_back(Persist{saved_});
}

// Deletes what the brake allows; the next attempt begins when nothing is left that might still run.
void FleetCore::GiveUpStart() {
  bool left = false;
  for (Pool& pool : pools_) {
    for (auto& [serial, pod] : pool.pods) {
      if (pod.state == State::kEnded || IsMember(pod)) continue;
      left = true;
      Delete(pod, "the start was given up", true);
    }
    pool.growing = false;
  }
  if (left) return;
  giving_up_ = false;
  gathering_since_ = std::max(now_, gang_retry_at_);
  Due(*gathering_since_ + options_.gang_deadline);
}

// A pool in a crash loop will not bring what is missing; waiting would only hold machines.
bool FleetCore::StartBlocked() {
  for (const Pool& pool : pools_) {
    const Counts counts = Count(pool);
    if (pool.stopped.empty() || counts.usable >= pool.Minimum()) continue;
    Fail(fmt::format("no start with {} of {} pods: {}", counts.usable, pool.Minimum(),
                     pool.stopped));
    return true;
  }
  return false;
}

std::string FleetCore::MissingSentence() const {
  constexpr int kShown = 3;
  std::string text;
  for (const Pool& pool : pools_) {
    if (pool.Minimum() == 0) continue;
    if (!text.empty()) text += "; ";
    const Counts counts = Count(pool);
    text += fmt::format("pool {}: {} of {} pods run", pool.options.name, counts.running,
                        pool.Minimum());
    int hidden = 0;
    int shown = 0;
    for (const auto& [serial, pod] : pool.pods) {
      if (pod.explained.empty()) continue;
      if (++shown > kShown) {
        ++hidden;
      } else {
        text += fmt::format(", {}: {}", pod.name, pod.explained);
      }
    }
    if (hidden > 0) text += fmt::format(", and {} more", hidden);
    const std::string note = PoolNote(pool);
    if (!note.empty()) text += fmt::format(", {}", note);
    if (counts.running >= pool.Minimum()) text += ", but their workers have formed no ring";
  }
  return text;
}

void FleetCore::Fail(const std::string& message) {
  failure_ = message;
  giving_up_ = false;
  Say("fleet-start", message);
  decision_.actions.push_back(FailJob{4, message});
  EndAll(message, true);
}

}  // namespace muster::fleet
