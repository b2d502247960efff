// Work that must not slow down others on a full machine.
#pragma once

#include <functional>

namespace muster {

// Runs `work` on a thread of its own that gets about a tenth of what others get (nice 10), and waits for it. A thread, because an
// unprivileged one cannot take back a priority that it has given up.
void RunAtLowPriority(const std::function<void()>& work);

}  // namespace muster
