#include "runtime/base/low_priority.h"

#include <sys/resource.h>

#include <thread>

namespace muster {

namespace {
constexpr int kNice = 10;
}  // namespace

void RunAtLowPriority(const std::function<void()>& work) {
  std::jthread([&] {
    (void)::setpriority(PRIO_PROCESS, 0, kNice);  // of this thread only; it may always be lowered
    work();
  }).join();
}

}  // namespace muster
