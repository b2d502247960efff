// Work that must not slow down others on a full machine.
#pragma once

#include <functional>

namespace muster {

inline constexpr int kLowPriority = 10;  // a nice value: about a tenth of what others get

// Runs `work` on a thread of its own at kLowPriority, and waits for it. A thread, because an unprivileged one cannot take back a priority
// that it has given up.
void RunAtLowPriority(const std::function<void()>& work);

// Whether a process that is started at kLowPriority may raise itself: it is root's, or RLIMIT_NICE allows it.
bool MayLeaveLowPriority();

// Gives every thread of this process the nice value `nice`, and those that they start meanwhile. What may not be raised stays.
void SetPriority(int nice);

}  // namespace muster
