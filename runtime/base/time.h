// Time: the one monotonic time point type. Pure code takes `now` as an argument; only shells call MonotonicNow().
#pragma once

#include <chrono>

namespace muster {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// The monotonic clock; never the wall clock, so a clock jump fires no timeout.
inline TimePoint MonotonicNow() { return std::chrono::steady_clock::now(); }

// Seconds and milliseconds as doubles, for text and JSON.
inline double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
inline double Milliseconds(Duration duration) { return Seconds(duration) * 1e3; }

}  // namespace muster
