#include "runtime/base/low_priority.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <latch>
#include <thread>

namespace muster {
namespace {

int Nice() { return ::getpriority(PRIO_PROCESS, 0); }

TEST(LowPriority, IsThatOfTheWorkOnly) {
  const int before = Nice();
  int during = before;
  RunAtLowPriority([&] { during = Nice(); });
  EXPECT_EQ(during, std::max(before, kLowPriority));
  EXPECT_EQ(Nice(), before);
  (void)MayLeaveLowPriority();
  EXPECT_EQ(Nice(), before);
}

// In a process of its own: what it gives up it may not get back.
TEST(LowPriority, IsSetForAllThreads) {
  const int nice = std::min(Nice() + 3, 19);
  const auto set_and_look = [&] {
    std::latch set(1);
    int other = 0;
    std::jthread thread([&] {
      set.wait();
      other = Nice();
    });
    SetPriority(nice);
    set.count_down();
    thread.join();
    ::_exit(Nice() == nice && other == nice ? 0 : 1);
  };
  EXPECT_EXIT(set_and_look(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace muster
