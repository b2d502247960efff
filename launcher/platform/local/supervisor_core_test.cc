#include "launcher/platform/local/supervisor_core.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Kind = SupervisorAction::Kind;
using Actions = SupervisorCore::Actions;

constexpr TimePoint kStart{seconds(1000)};

SupervisorCore Started(const std::vector<std::string>& slots) {
  SupervisorCore core{SupervisorPolicy{}};
  core.Start(slots, kStart);
  return core;
}

TEST(SupervisorCore, StartsTheCoordinatorAndAllAgentsAtOnce) {
  SupervisorCore core{SupervisorPolicy{}};
  EXPECT_EQ(core.Start({"w-0", "w-1"}, kStart), (Actions{{Kind::kStartCoordinator, ""},
                                                         {Kind::kStartAgent, "w-0"},
                                                         {Kind::kStartAgent, "w-1"}}));
}

TEST(SupervisorCore, RestartsTheCoordinatorAtOnceAndThenAfterGrowingPauses) {
  SupervisorCore core = Started({"w-0"});
  TimePoint now = kStart;
  EXPECT_EQ(core.CoordinatorEnded(now), (Actions{{Kind::kStartCoordinator, ""}}));
  for (const int pause : {50, 100, 200, 400, 800, 1000, 1000}) {
    EXPECT_TRUE(core.CoordinatorEnded(now).empty());
    EXPECT_EQ(core.next_deadline(), now + milliseconds(pause));
    now += milliseconds(pause);
    EXPECT_EQ(core.Tick(now), (Actions{{Kind::kStartCoordinator, ""}}));
  }
  // One that lived for a while is restarted at once again.
  EXPECT_EQ(core.CoordinatorEnded(now + seconds(2)), (Actions{{Kind::kStartCoordinator, ""}}));
}

TEST(SupervisorCore, GivesUpOnACoordinatorThatDiesAgainAndAgainWithoutProgress) {
  SupervisorPolicy policy;
  policy.coordinator_death_limit = 3;
  SupervisorCore core{policy};
  core.Start({}, kStart);
  core.CoordinatorEnded(kStart);
  core.CoordinatorEnded(kStart + seconds(3));
  core.Progressed();
  core.CoordinatorEnded(kStart + seconds(6));
  core.CoordinatorEnded(kStart + seconds(9));
  EXPECT_EQ(core.failure(), "");
  EXPECT_EQ(core.CoordinatorEnded(kStart + seconds(12)),
            (Actions{{Kind::kKillAll, ""}, {Kind::kDone, ""}}));
  EXPECT_EQ(core.failure(), "the coordinator died 3 times within 60 s without progress");
}

TEST(SupervisorCore, ForgetsDeathsOlderThanTheWindow) {
  SupervisorPolicy policy;
  policy.coordinator_death_limit = 2;
  SupervisorCore core{policy};
  core.Start({}, kStart);
  core.CoordinatorEnded(kStart);
  core.CoordinatorEnded(kStart + seconds(61));
  EXPECT_EQ(core.failure(), "");
}

TEST(SupervisorCore, RestartsAnAgentThatDied) {
  SupervisorCore core = Started({"w-0"});
  EXPECT_TRUE(core.AgentEnded("w-0", false, kStart).empty());
  EXPECT_EQ(core.Tick(kStart + milliseconds(50)), (Actions{{Kind::kStartAgent, "w-0"}}));
  EXPECT_TRUE(core.AgentEnded("w-0", false, kStart + milliseconds(60)).empty());
  EXPECT_EQ(core.next_deadline(), kStart + milliseconds(160));
}

TEST(SupervisorCore, FollowsTheSlotsThatTheCoordinatorWants) {
  SupervisorCore core = Started({"w-0", "w-1"});
  EXPECT_EQ(core.SlotsWanted({"w-0", "w-2"}, kStart), (Actions{{Kind::kStartAgent, "w-2"}}));
  EXPECT_TRUE(core.AgentEnded("w-1", true, kStart).empty());
  EXPECT_FALSE(core.next_deadline());
}

TEST(SupervisorCore, EndsAnAgentThatDoesNotLeave) {
  SupervisorCore core = Started({"w-0", "w-1"});
  core.SlotsWanted({"w-0"}, kStart);
  EXPECT_TRUE(core.Tick(kStart + seconds(11)).empty());
  EXPECT_EQ(core.Tick(kStart + seconds(12)), (Actions{{Kind::kTerminateAgent, "w-1"}}));
}

TEST(SupervisorCore, StartsAnAgentAgainThatIsWantedBackWhileItLeaves) {
  SupervisorCore core = Started({"w-0", "w-1"});
  core.SlotsWanted({"w-0"}, kStart);
  EXPECT_TRUE(core.SlotsWanted({"w-0", "w-1"}, kStart).empty());
  EXPECT_EQ(core.AgentEnded("w-1", true, kStart), (Actions{{Kind::kStartAgent, "w-1"}}));
}

TEST(SupervisorCore, DoesNotStartAnAgentThatWasToldToGoUntilItIsWantedAnew) {
  SupervisorCore core = Started({"w-0"});
  EXPECT_TRUE(core.AgentEnded("w-0", true, kStart).empty());
  EXPECT_FALSE(core.next_deadline());
  EXPECT_EQ(core.SlotsWanted({"w-0"}, kStart), (Actions{{Kind::kStartAgent, "w-0"}}));
}

TEST(SupervisorCore, LetsEverybodyLeaveInOrderWhenTheJobHasFinished) {
  SupervisorCore core = Started({"w-0", "w-1"});
  EXPECT_TRUE(core.Finished(kStart).empty());
  EXPECT_TRUE(core.AgentEnded("w-0", true, kStart).empty());
  EXPECT_EQ(core.AgentEnded("w-1", true, kStart), (Actions{{Kind::kTerminateCoordinator, ""}}));
  EXPECT_EQ(core.CoordinatorEnded(kStart), (Actions{{Kind::kDone, ""}}));
}

TEST(SupervisorCore, EndsAgentsThatDoNotLeaveAndKillsThoseThatDoNotEnd) {
  SupervisorCore core = Started({"w-0"});
  core.Finished(kStart);
  EXPECT_EQ(core.Tick(kStart + seconds(12)), (Actions{{Kind::kTerminateAgent, "w-0"}}));
  EXPECT_EQ(core.Tick(kStart + seconds(14)), (Actions{{Kind::kKillAll, ""}}));
  EXPECT_TRUE(core.AgentEnded("w-0", false, kStart + seconds(14)).empty());
  EXPECT_EQ(core.CoordinatorEnded(kStart + seconds(14)), (Actions{{Kind::kDone, ""}}));
}

TEST(SupervisorCore, DoesNotWaitForOrdersWhenTheCoordinatorIsGone) {
  SupervisorCore core = Started({"w-0"});
  core.Finished(kStart);
  EXPECT_EQ(core.CoordinatorEnded(kStart), (Actions{{Kind::kTerminateAgent, "w-0"}}));
  EXPECT_EQ(core.AgentEnded("w-0", false, kStart), (Actions{{Kind::kDone, ""}}));
}

TEST(SupervisorCore, EndsInBoundedTimeEvenIfNothingDies) {
  SupervisorCore core = Started({"w-0"});
  EXPECT_EQ(core.Kill(kStart), (Actions{{Kind::kKillAll, ""}}));
  EXPECT_EQ(core.Tick(kStart + seconds(2)), (Actions{{Kind::kDone, ""}}));
}

TEST(SupervisorCore, KillsAJobThatDoesNotStop) {
  SupervisorCore core = Started({"w-0"});
  core.StopRequested(kStart);
  EXPECT_EQ(core.next_deadline(), kStart + seconds(90));
  EXPECT_TRUE(core.Tick(kStart + seconds(89)).empty());
  EXPECT_EQ(core.Tick(kStart + seconds(90)), (Actions{{Kind::kKillAll, ""}}));
  EXPECT_EQ(core.failure(), "the job did not stop within 90 s and was killed");
}

TEST(SupervisorCore, StartsNothingOnceTheJobHasFinished) {
  SupervisorCore core = Started({"w-0", "w-1"});
  core.AgentEnded("w-1", false, kStart);
  core.Finished(kStart);
  EXPECT_TRUE(core.SlotsWanted({"w-0", "w-1", "w-2"}, kStart).empty());
  EXPECT_TRUE(core.AgentEnded("w-0", false, kStart) ==
              (Actions{{Kind::kTerminateCoordinator, ""}}));
}

}  // namespace
}  // namespace muster
