// How a test sees that a call blocks, without sleeping and hoping.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "runtime/base/files.h"

namespace muster {

inline pid_t ThreadId() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

// Waits until thread `id` of this process waits in the kernel, or `returned` is set: how a test sees that a call blocks.
inline void AwaitBlocked(pid_t id, const std::atomic<bool>& returned) {
  const std::string path = "/proc/self/task/" + std::to_string(id) + "/stat";
  while (!returned) {
    const auto stat = ReadFile(path);
    if (!stat || stat->substr(stat->rfind(')') + 2, 1) == "S") return;
    std::this_thread::yield();
  }
}

}  // namespace muster
