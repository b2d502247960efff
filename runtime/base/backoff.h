// Backoff: exponential waiting times with a cap, as a pure value.
#pragma once

#include <algorithm>
#include <chrono>

namespace muster {

struct BackoffPolicy {
  std::chrono::milliseconds first{100};  // wait before the first retry
  std::chrono::milliseconds cap{5000};   // longest wait

  // The wait before retry `attempt` (0 is the first): first x 2^attempt, at most `cap`.
  std::chrono::milliseconds Delay(int attempt) const {
    auto delay = first;
    for (int i = 0; i < attempt && delay < cap; ++i) delay *= 2;
    return std::min(delay, cap);
  }
};

}  // namespace muster
