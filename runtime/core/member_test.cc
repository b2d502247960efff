#include "runtime/core/member.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace muster {
namespace {

// Actions in one line each, so that a test shows a whole answer.
struct Describe {
  std::string operator()(const BuildGeneration& a) const {
    return fmt::format("build {}", a.generation.number);
  }
  std::string operator()(const DiscardBuild& a) const {
    return "discard " + std::to_string(a.number);
  }
  std::string operator()(const RevokeActive& a) const { return "revoke: " + a.reason; }
  std::string operator()(const EnterGeneration& a) const {
    return "enter " + std::to_string(a.number);
  }
  std::string operator()(const SayHello&) const { return "hello"; }
  std::string operator()(const Leave& a) const { return "leave: " + a.reason; }
  std::string operator()(const SendReport& a) const {
    const Report& r = a.report;
    const char* kind = r.kind == Report::Kind::kRevoked ? "revoked" : "build failed";
    return fmt::format("report {} {} lost '{}'{}{}: {}", kind, r.generation, r.lost,
                       r.unreachable.empty() ? "" : " unreachable ", fmt::join(r.unreachable, " "),
                       r.message);
  }
};

using Lines = std::vector<std::string>;

Lines Text(const std::vector<MemberAction>& actions) {
  Lines lines;
  for (const MemberAction& action : actions) lines.push_back(std::visit(Describe(), action));
  return lines;
}

const std::string kMe = "w-1";

Order GenerationOrder(uint64_t number, bool urgent, const std::string& reason,
                      bool with_me = true) {
  Order order;
  order.generation.number = number;
  order.generation.members.push_back({"w-0", 1, "address 0"});
  if (with_me) order.generation.members.push_back({kMe, 1, "address 1"});
  order.urgent = urgent;
  order.reason = reason;
  return order;
}

Order Urgent(uint64_t number) {
  return GenerationOrder(number, true, fmt::format("urgent {}", number));
}
Order Planned(uint64_t number) {
  return GenerationOrder(number, false, fmt::format("planned {}", number));
}
Order PlannedWithoutMe(uint64_t number) {
  return GenerationOrder(number, false, fmt::format("planned {}", number), false);
}
Order Other(Order::Kind kind, const std::string& reason) { return {kind, {}, false, reason}; }

// A member that takes steps in `generation`.
MemberCore Active(uint64_t generation) {
  MemberCore core(kMe);
  core.OnOrder(Urgent(generation));
  core.OnBuilt(generation);
  EXPECT_TRUE(core.OnEntering(generation));
  core.OnEntered(generation);
  return core;
}

// A joiner that waits in `generation` for the others.
MemberCore Joining(uint64_t generation) {
  MemberCore core(kMe);
  core.OnOrder(Planned(generation));
  core.OnBuilt(generation);
  EXPECT_TRUE(core.OnEntering(generation));
  return core;
}

MemberCore Broken(uint64_t generation) {
  MemberCore core = Active(generation);
  core.OnBroken(generation, "w-0 died", "w-0");
  return core;
}

// --- Start --------------------------------------------------------------------------------------------------------------

TEST(MemberCore, IsInNothingAtFirst) {
  const MemberCore core(kMe);
  EXPECT_EQ(core.active(), 0u);
  EXPECT_EQ(core.prepared(), 0u);
  EXPECT_EQ(core.revoked(), 0u);
  EXPECT_FALSE(core.broken());
  EXPECT_FALSE(core.ordered_has_me());
}

TEST(MemberCore, BuildsAndEntersTheFirstUrgentGeneration) {
  MemberCore core(kMe);
  EXPECT_EQ(Text(core.OnOrder(Urgent(1))), Lines{"build 1"});
  EXPECT_EQ(Text(core.OnBuilt(1)), Lines{"enter 1"});
  EXPECT_EQ(core.prepared(), 0u) << "there is nobody to vote with";
  EXPECT_TRUE(core.OnEntering(1));
  EXPECT_EQ(core.active(), 1u);
  core.OnEntered(1);
  EXPECT_EQ(core.prepared(), 0u);
  EXPECT_EQ(core.ordered().number, 0u);
}

// A joiner has nothing to vote on: it waits inside the generation until the others switch to it.
TEST(MemberCore, EntersAPlannedGenerationAtOnceWhenItIsInNone) {
  MemberCore core(kMe);
  EXPECT_EQ(Text(core.OnOrder(Planned(4))), Lines{"build 4"});
  EXPECT_EQ(Text(core.OnBuilt(4)), Lines{"enter 4"});
}

// --- Planned changes ----------------------------------------------------------------------------------------------------

TEST(MemberCore, VotesForAPlannedGenerationOnceItIsBuilt) {
  MemberCore core = Active(1);
  EXPECT_EQ(Text(core.OnOrder(Planned(2))), Lines{"build 2"});
  EXPECT_EQ(core.prepared(), 0u);
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{});
  EXPECT_EQ(core.prepared(), 2u);
  EXPECT_TRUE(core.ordered_has_me());
  EXPECT_EQ(core.active(), 1u);

  EXPECT_TRUE(core.OnEntering(2));
  core.OnEntered(2);
  EXPECT_EQ(core.active(), 2u);
  EXPECT_EQ(core.prepared(), 0u);
}

TEST(MemberCore, VotesAtOnceForAGenerationWithoutItself) {
  MemberCore core = Active(1);
  EXPECT_EQ(Text(core.OnOrder(PlannedWithoutMe(2))), Lines{});
  EXPECT_EQ(core.prepared(), 2u);
  EXPECT_FALSE(core.ordered_has_me());

  core.OnLeft();
  EXPECT_EQ(core.active(), 0u);
  EXPECT_EQ(core.prepared(), 0u);
  EXPECT_FALSE(core.broken());
}

TEST(MemberCore, JoinsAgainAfterItHasLeft) {
  MemberCore core = Active(1);
  core.OnOrder(PlannedWithoutMe(2));
  core.OnLeft();
  EXPECT_EQ(Text(core.OnOrder(Planned(3))), Lines{"build 3"});
  EXPECT_EQ(Text(core.OnBuilt(3)), Lines{"enter 3"});
}

TEST(MemberCore, EntersANewerGenerationThatWasOrderedBeforeItLeft) {
  for (const bool built_before : {true, false}) {
    MemberCore core = Active(1);
    core.OnOrder(PlannedWithoutMe(2));  // voted for, and decided while the coordinator gives it up
    core.OnOrder(Planned(3));
    if (built_before) core.OnBuilt(3);
    EXPECT_EQ(Text(core.OnLeft()), built_before ? Lines{"enter 3"} : Lines{});
    EXPECT_EQ(Text(core.OnBuilt(3)), Lines{"enter 3"});
  }
}

TEST(MemberCore, BuildsTheNewestOfTwoPlannedGenerations) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  EXPECT_EQ(Text(core.OnOrder(Planned(3))), (Lines{"discard 2", "build 3"}));
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"discard 2"})
      << "it was complete before the discard was heard";
  EXPECT_EQ(core.prepared(), 0u);
  core.OnBuilt(3);
  EXPECT_EQ(core.prepared(), 3u);
}

TEST(MemberCore, TakesItsVoteBackWhenAnotherGenerationIsPlanned) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnBuilt(2);
  EXPECT_EQ(Text(core.OnOrder(Planned(3))), (Lines{"discard 2", "build 3"}));
  EXPECT_EQ(core.prepared(), 0u);
}

// The vote for 2 was on its way when 3 was ordered; the shell still holds 2.
TEST(MemberCore, KeepsWhatIsOrderedWhenItSwitchesToAnOlderGeneration) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnBuilt(2);
  core.OnOrder(Planned(3));
  EXPECT_TRUE(core.OnEntering(2));
  core.OnEntered(2);
  EXPECT_EQ(core.active(), 2u);
  EXPECT_EQ(core.ordered().number, 3u);
  EXPECT_EQ(Text(core.OnBuilt(3)), Lines{}) << "a planned generation is voted for";
  EXPECT_EQ(core.prepared(), 3u);
}

// --- Old and repeated orders --------------------------------------------------------------------------------------------

TEST(MemberCore, IgnoresARepeatedOrder) {
  MemberCore core(kMe);
  core.OnOrder(Urgent(3));
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), Lines{});
  EXPECT_EQ(Text(core.OnBuilt(3)), Lines{"enter 3"});
  EXPECT_TRUE(core.OnEntering(3));
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), Lines{});
  EXPECT_EQ(Text(core.OnOrder(Planned(3))), Lines{});
  EXPECT_EQ(core.active(), 3u);
}

TEST(MemberCore, IgnoresAnOrderOlderThanOneItHasSeen) {
  MemberCore core = Active(5);
  EXPECT_EQ(Text(core.OnOrder(Urgent(4))), Lines{});
  EXPECT_FALSE(core.broken());
  core.OnOrder(Planned(7));
  EXPECT_EQ(Text(core.OnOrder(Planned(6))), Lines{});
  EXPECT_EQ(core.ordered().number, 7u);
}

TEST(MemberCore, NeverEntersAGenerationItHasGivenUp) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnBuildFailed(2, "no route", {"w-1"});
  const Lines repeated = {"report build failed 2 lost '' unreachable w-1: no route"};
  EXPECT_EQ(Text(core.OnOrder(Planned(2))), repeated) << "who repeats the order does not know";
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"discard 2"});
}

// --- A death ------------------------------------------------------------------------------------------------------------

TEST(MemberCore, ReportsADeadGenerationOnceAndWithTheCulprit) {
  MemberCore core = Active(1);
  EXPECT_EQ(Text(core.OnBroken(1, "silence", "w-0", {"w-0"})),
            Lines{"report revoked 1 lost 'w-0' unreachable w-0: silence"});
  EXPECT_TRUE(core.broken());
  EXPECT_EQ(core.revoked(), 1u);
  EXPECT_EQ(core.active(), 1u);
  EXPECT_EQ(Text(core.OnBroken(1, "again", "")), Lines{});
}

TEST(MemberCore, IgnoresTheDeathOfAGenerationItIsNotIn) {
  MemberCore core = Active(2);
  EXPECT_EQ(Text(core.OnBroken(1, "late", "w-0")), Lines{});
  EXPECT_EQ(Text(core.OnBroken(3, "early", "w-0")), Lines{});
  EXPECT_FALSE(core.broken());
}

TEST(MemberCore, EntersAnUrgentGenerationWithoutAVoteAfterADeath) {
  MemberCore core = Broken(1);
  EXPECT_EQ(Text(core.OnOrder(Urgent(2))), Lines{"build 2"}) << "nothing is left to revoke";
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"enter 2"});
  EXPECT_TRUE(core.OnEntering(2));
  EXPECT_FALSE(core.broken());
  EXPECT_EQ(core.active(), 2u);
  EXPECT_EQ(core.revoked(), 1u);
}

TEST(MemberCore, RevokesWhatItIsInWhenAnUrgentOrderComesFirst) {
  MemberCore core = Active(1);
  EXPECT_EQ(Text(core.OnOrder(Urgent(2))), (Lines{"revoke: urgent 2", "build 2"}));
  EXPECT_TRUE(core.broken());
  EXPECT_EQ(core.revoked(), 1u);
  EXPECT_EQ(Text(core.OnBroken(1, "revoked", "")), Lines{}) << "the coordinator knows";
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"enter 2"});
}

TEST(MemberCore, FollowsASecondUrgentOrderThatOvertakesTheFirst) {
  MemberCore core = Broken(1);
  core.OnOrder(Urgent(2));
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), (Lines{"discard 2", "build 3"}));
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"discard 2"});
  EXPECT_EQ(Text(core.OnBuilt(3)), Lines{"enter 3"});
}

TEST(MemberCore, RevokesTheGenerationItWaitsInWhenAnotherUrgentOneComes) {
  MemberCore core = Broken(1);
  core.OnOrder(Urgent(2));
  core.OnBuilt(2);
  EXPECT_TRUE(core.OnEntering(2));
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), (Lines{"revoke: urgent 3", "build 3"}));
  EXPECT_EQ(core.revoked(), 2u);
}

TEST(MemberCore, GivesUpAPlannedGenerationWhenTheActiveOneDies) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnBuilt(2);
  EXPECT_EQ(Text(core.OnBroken(1, "w-0 died", "w-0")),
            (Lines{"report revoked 1 lost 'w-0': w-0 died", "discard 2",
                   "report build failed 2 lost '': w-0 died"}));
  EXPECT_EQ(core.prepared(), 0u);
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"discard 2"});
}

TEST(MemberCore, KeepsAnUrgentGenerationThatIsBuildingWhenTheActiveOneDies) {
  MemberCore core = Active(1);
  core.OnOrder(Urgent(2));
  core.OnBroken(1, "revoked", "");
  EXPECT_EQ(core.ordered().number, 2u);
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"enter 2"});
}

TEST(MemberCore, VotesForNothingWhileItsGenerationIsBroken) {
  MemberCore core = Broken(1);
  core.OnOrder(PlannedWithoutMe(2));
  EXPECT_EQ(core.prepared(), 0u);
}

// The coordinator planned 2 before it heard of the death of 1; whoever is in nothing that lives has nothing to vote on.
TEST(MemberCore, EntersAPlannedGenerationAtOnceWhenItsOwnIsBroken) {
  MemberCore core = Broken(1);
  EXPECT_EQ(Text(core.OnOrder(Planned(2))), Lines{"build 2"});
  EXPECT_EQ(Text(core.OnBuilt(2)), Lines{"enter 2"});
}

// --- Building fails -----------------------------------------------------------------------------------------------------

TEST(MemberCore, ReportsAPlannedGenerationThatCouldNotBeBuiltAndTrainsOn) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  EXPECT_EQ(Text(core.OnBuildFailed(2, "w-4 did not connect")),
            Lines{"report build failed 2 lost '': w-4 did not connect"});
  EXPECT_EQ(core.active(), 1u);
  EXPECT_FALSE(core.broken());
  EXPECT_EQ(core.ordered().number, 0u);
}

TEST(MemberCore, ReportsAnUrgentGenerationThatCouldNotBeBuiltAndWaitsForTheNext) {
  MemberCore core = Broken(1);
  core.OnOrder(Urgent(2));
  EXPECT_EQ(Text(core.OnBuildFailed(2, "w-0 did not connect")),
            Lines{"report build failed 2 lost '': w-0 did not connect"});
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), Lines{"build 3"});
  EXPECT_EQ(Text(core.OnBuilt(3)), Lines{"enter 3"});
}

TEST(MemberCore, SaysNothingOfAFailureThatNobodyWaitsFor) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnOrder(Planned(3));
  EXPECT_EQ(Text(core.OnBuildFailed(2, "cancelled")), Lines{});
  EXPECT_EQ(core.ordered().number, 3u);
}

// --- A joiner -----------------------------------------------------------------------------------------------------------

TEST(MemberCore, LeavesTheGenerationItWaitsInWhenTheOthersPlanAnother) {
  MemberCore core = Joining(4);
  EXPECT_EQ(Text(core.OnOrder(Planned(5))), (Lines{"revoke: planned 5", "build 5"}));
  EXPECT_EQ(core.revoked(), 4u);
  EXPECT_EQ(Text(core.OnBuilt(5)), Lines{"enter 5"});
}

TEST(MemberCore, IsNoJoinerAnyMoreOnceAllHaveEntered) {
  MemberCore core = Joining(4);
  core.OnEntered(4);
  EXPECT_EQ(Text(core.OnOrder(Planned(5))), Lines{"build 5"});
  EXPECT_EQ(Text(core.OnBuilt(5)), Lines{});
  EXPECT_EQ(core.prepared(), 5u);
}

TEST(MemberCore, IsNoJoinerWhenItSwitchesFromOneGenerationToTheNext) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  core.OnBuilt(2);
  EXPECT_TRUE(core.OnEntering(2));
  EXPECT_EQ(Text(core.OnOrder(Planned(3))), Lines{"build 3"}) << "the others are on their way to 2";
}

TEST(MemberCore, IgnoresALateEnteredOfAnotherGeneration) {
  MemberCore core = Joining(4);
  core.OnEntered(3);
  EXPECT_EQ(Text(core.OnOrder(Planned(5))), (Lines{"revoke: planned 5", "build 5"}));
}

TEST(MemberCore, ReportsTheDeathOfTheGenerationItWaitsIn) {
  MemberCore core = Joining(4);
  EXPECT_EQ(Text(core.OnBroken(4, "w-0 died", "w-0")),
            Lines{"report revoked 4 lost 'w-0': w-0 died"});
  EXPECT_EQ(Text(core.OnOrder(Urgent(5))), Lines{"build 5"});
}

// --- What its hello says ---------------------------------------------------------------------------------------------------

TEST(MemberCore, SaysWhichGenerationItWillEnterWithoutAVote) {
  MemberCore core(kMe);
  EXPECT_EQ(core.entering(), 0u);
  core.OnOrder(Urgent(1));
  EXPECT_EQ(core.entering(), 1u);
  core.OnBuilt(1);
  EXPECT_TRUE(core.OnEntering(1));
  EXPECT_EQ(core.entering(), 1u) << "it waits for the others";
  core.OnEntered(1);
  core.OnOrder(Planned(2));
  EXPECT_EQ(core.entering(), 0u) << "that needs a vote";
  core.OnBroken(1, "w-0 died", "w-0");
  core.OnOrder(Urgent(3));
  EXPECT_EQ(core.entering(), 3u);
  core.OnOrder(Other(Order::Kind::kRejoin, "late"));
  EXPECT_EQ(core.entering(), 0u);
}

// --- Rejoin -------------------------------------------------------------------------------------------------------------

TEST(MemberCore, SaysHelloAsAJoinerWhenItWasEvicted) {
  MemberCore core = Active(3);
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRejoin, "silent for 3.1 s"))),
            (Lines{"revoke: silent for 3.1 s", "hello"}));
  EXPECT_EQ(core.active(), 0u);
  EXPECT_EQ(core.revoked(), 3u);
  EXPECT_EQ(Text(core.OnBroken(3, "revoked", "")), Lines{}) << "it is in nothing that could break";
  EXPECT_EQ(Text(core.OnOrder(Planned(4))), Lines{"build 4"});
  EXPECT_EQ(Text(core.OnBuilt(4)), Lines{"enter 4"});
}

TEST(MemberCore, DropsWhatItBuildsWhenItMustRejoin) {
  MemberCore core = Active(3);
  core.OnOrder(Planned(4));
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRejoin, "late"))),
            (Lines{"discard 4", "revoke: late", "hello"}));
  EXPECT_EQ(Text(core.OnBuilt(4)), Lines{"discard 4"});
}

TEST(MemberCore, MustNotEnterWhatItHasVotedForWhenItMustRejoin) {
  MemberCore core = Active(3);
  core.OnOrder(Planned(4));
  core.OnBuilt(4);
  core.OnOrder(Other(Order::Kind::kRejoin, "silent for 3.1 s"));
  EXPECT_FALSE(core.OnEntering(4))
      << "the others may have gone on without it, and it would train alone";
  EXPECT_EQ(core.active(), 0u);
  EXPECT_EQ(core.revoked(), 4u);
}

TEST(MemberCore, RejoinsFromABrokenGenerationWithoutForgettingThatItIsDead) {
  MemberCore core = Broken(3);
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRejoin, "late"))),
            (Lines{"revoke: late", "hello"}));
  EXPECT_EQ(core.revoked(), 3u);
  EXPECT_FALSE(core.broken());
}

TEST(MemberCore, RejoinsFromNothing) {
  MemberCore core(kMe);
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRejoin, "who are you"))), Lines{"hello"});
  EXPECT_EQ(core.revoked(), 0u);
}

TEST(MemberCore, IgnoresTheOrdersOfBeforeItsRejoin) {
  MemberCore core = Active(3);
  core.OnOrder(Planned(4));
  core.OnOrder(Other(Order::Kind::kRejoin, "late"));
  EXPECT_EQ(Text(core.OnOrder(Planned(4))), Lines{});
  EXPECT_EQ(Text(core.OnOrder(Urgent(3))), Lines{});
}

// --- Stop and release ---------------------------------------------------------------------------------------------------

TEST(MemberCore, VotesToStopFromTheOrderOn) {
  MemberCore core = Active(1);
  EXPECT_FALSE(core.stop_requested());
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kStop, "asked to"))), Lines{});
  EXPECT_TRUE(core.stop_requested());
  core.OnOrder(Urgent(2));
  core.OnBuilt(2);
  EXPECT_TRUE(core.OnEntering(2));
  EXPECT_TRUE(core.stop_requested()) << "a change of membership does not take it back";
}

TEST(MemberCore, EndsWhenItIsReleased) {
  MemberCore core = Active(1);
  core.OnOrder(Planned(2));
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRelease, "all done"))),
            (Lines{"discard 2", "revoke: all done", "leave: all done"}));
  EXPECT_TRUE(core.released());
}

TEST(MemberCore, IsReleasedWhenItHasLeft) {
  MemberCore core = Active(1);
  core.OnOrder(PlannedWithoutMe(2));
  core.OnLeft();
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRelease, "resized"))),
            (Lines{"revoke: resized", "leave: resized"}));
}

TEST(MemberCore, DoesNothingAfterItsRelease) {
  MemberCore core = Active(1);
  core.OnOrder(Other(Order::Kind::kRelease, "all done"));
  EXPECT_EQ(Text(core.OnOrder(Urgent(2))), Lines{});
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRejoin, "late"))), Lines{});
  EXPECT_EQ(Text(core.OnOrder(Other(Order::Kind::kRelease, "again"))), Lines{});
  EXPECT_EQ(Text(core.OnBroken(1, "revoked", "")), Lines{});
  EXPECT_FALSE(core.stop_requested());
}

}  // namespace
}  // namespace muster
