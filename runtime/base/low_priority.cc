#include "runtime/base/low_priority.h"

#include <sys/resource.h>

#include <charconv>
#include <filesystem>
#include <thread>

namespace muster {

namespace {

// Of one thread; 0 is the calling one. False if it may not be raised, or is gone.
bool Set(int thread, int nice) {
  return ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), nice) == 0;
}

// Whether some thread had another one.
bool SetOfAll(int nice) {
  bool changed = false;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", gone)) {
    const std::string name = entry.path().filename();
    int thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    if (::getpriority(PRIO_PROCESS, static_cast<id_t>(thread)) != nice) {
      changed |= Set(thread, nice);
    }
  }
  return changed;
}

}  // namespace

void RunAtLowPriority(const std::function<void()>& work) {
  std::jthread([&] {
    (void)Set(0, kLowPriority);  // of this thread only; it may always be lowered
    work();
  }).join();
}

bool MayLeaveLowPriority() {
  const int before = ::getpriority(PRIO_PROCESS, 0);
  bool may = false;
  RunAtLowPriority([&] { may = Set(0, before); });
  return may;
}

void SetPriority(int nice) {
  constexpr int kRounds = 10;  // a thread that was not seen may have started others
  for (int round = 0; round < kRounds && SetOfAll(nice); ++round) {
  }
}

}  // namespace muster
