// Await: for tests that watch another process, which can only be asked again and again, until a deadline.
//
// Threading: blocks the caller.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "runtime/base/time.h"

namespace muster {

inline constexpr std::chrono::seconds kPatience{30};

// Whether `condition` became true within kPatience.
inline bool Await(const std::function<bool()>& condition) {
  const TimePoint deadline = MonotonicNow() + kPatience;
  while (!condition()) {
    if (MonotonicNow() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace muster
