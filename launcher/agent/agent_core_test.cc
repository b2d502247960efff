#include "launcher/agent/agent_core.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Actions = std::vector<AgentAction>;

constexpr TimePoint kStart{seconds(1000)};

// A core whose worker runs since kStart.
AgentCore Running() {
  AgentCore core{AgentPolicy{}};
  EXPECT_EQ(core.Start(kStart), Actions{AgentAction::kStartWorker});
  core.WorkerStarted(kStart);
  return core;
}

TEST(AgentCore, RestartsACrashedWorkerAfterAGrowingPause) {
  AgentCore core = Running();
  TimePoint now = kStart;
  for (const int pause : {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
    EXPECT_TRUE(core.WorkerEnded(-1, now).empty());
    EXPECT_EQ(core.next_deadline(), now + milliseconds(pause));
    EXPECT_TRUE(core.Tick(now + milliseconds(pause - 1)).empty());
    now += milliseconds(pause);
    EXPECT_EQ(core.Tick(now), Actions{AgentAction::kStartWorker});
    core.WorkerStarted(now);
  }
}

TEST(AgentCore, ForgetsOldCrashesOnceAWorkerHasLivedForAWhile) {
  AgentCore core = Running();
  core.WorkerEnded(1, kStart);
  core.Tick(kStart + seconds(1));
  core.WorkerStarted(kStart + seconds(1));
  core.WorkerEnded(1, kStart + seconds(12));
  EXPECT_EQ(core.next_deadline(), kStart + seconds(12) + milliseconds(50));
}

TEST(AgentCore, DoesNotRestartWhatWouldEndTheSameWayAgain) {
  for (const int exit_code : {0, 2, 6}) {
    AgentCore core = Running();
    EXPECT_TRUE(core.WorkerEnded(exit_code, kStart).empty());
    EXPECT_FALSE(core.next_deadline()) << exit_code;
    EXPECT_EQ(core.RestartWorker(kStart), Actions{AgentAction::kStartWorker});
  }
}

TEST(AgentCore, RetriesAProgramThatCannotBeStarted) {
  AgentCore core{AgentPolicy{}};
  core.Start(kStart);
  core.WorkerEnded(127, kStart);
  EXPECT_EQ(core.next_deadline(), kStart + milliseconds(50));
}

TEST(AgentCore, KillsAHangingWorkerAndStartsANewOneAtOnce) {
  AgentCore core = Running();
  EXPECT_EQ(core.RestartWorker(kStart), Actions{AgentAction::kKill});
  EXPECT_TRUE(core.RestartWorker(kStart).empty());  // told twice, killed once
  EXPECT_EQ(core.WorkerEnded(-1, kStart), Actions{AgentAction::kStartWorker});
}

TEST(AgentCore, LetsTheWorkerEndThenAsksItToAndThenKillsIt) {
  AgentCore core = Running();
  EXPECT_TRUE(core.ShutDown(kStart).empty());
  EXPECT_TRUE(core.Tick(kStart + milliseconds(4999)).empty());
  EXPECT_EQ(core.Tick(kStart + seconds(5)), Actions{AgentAction::kTerminate});
  EXPECT_TRUE(core.Tick(kStart + milliseconds(9999)).empty());
  EXPECT_EQ(core.Tick(kStart + seconds(10)), Actions{AgentAction::kKill});
  EXPECT_EQ(core.WorkerEnded(-1, kStart + seconds(10)), Actions{AgentAction::kExit});
}

TEST(AgentCore, LeavesAsSoonAsTheWorkerHasEnded) {
  AgentCore core = Running();
  core.ShutDown(kStart);
  EXPECT_EQ(core.WorkerEnded(1, kStart), Actions{AgentAction::kExit});
  EXPECT_FALSE(core.next_deadline());
}

TEST(AgentCore, LeavesAtOnceWhenNoWorkerRuns) {
  AgentCore held = Running();
  held.WorkerEnded(0, kStart);
  EXPECT_EQ(held.ShutDown(kStart), Actions{AgentAction::kExit});
  AgentCore waiting = Running();
  waiting.WorkerEnded(1, kStart);
  EXPECT_EQ(waiting.ShutDownNow(), Actions{AgentAction::kExit});
}

TEST(AgentCore, KillsWithoutGraceWhenToldToEndNow) {
  AgentCore core = Running();
  core.ShutDown(kStart);
  EXPECT_EQ(core.ShutDownNow(), Actions{AgentAction::kKill});
  EXPECT_EQ(core.WorkerEnded(-1, kStart), Actions{AgentAction::kExit});
  EXPECT_TRUE(core.ShutDownNow().empty());
}

TEST(AgentCore, StartsNothingOnceItIsLeaving) {
  AgentCore core = Running();
  core.RestartWorker(kStart);
  EXPECT_TRUE(core.ShutDown(kStart).empty());
  EXPECT_EQ(core.WorkerEnded(-1, kStart), Actions{AgentAction::kExit});
  EXPECT_TRUE(core.RestartWorker(kStart).empty());
}

}  // namespace
}  // namespace muster
