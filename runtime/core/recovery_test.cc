#include "runtime/core/recovery.h"

#include <gtest/gtest.h>

#include <map>

namespace muster {
namespace {

using Action = RecoveryPlan::Action;

// --- What a member may hold ---------------------------------------------------------------------------------------------

Entry Nothing() { return {}; }
Entry At(uint64_t position) { return {.has_state = 1, .position = position}; }
// Has applied the outcome of the vote before, and still holds it.
Entry Ahead(uint64_t position) {
  return {.has_state = 1, .position = position, .outcome_of = position - 1};
}
// Holds the reduced gradient of the vote at its position, and the outcome of the one before; not its own outcome.
Entry Reduced(uint64_t position) {
  return {.has_state = 1, .position = position, .reduced_at = position, .outcome_of = position - 1};
}
Entry Done(Entry entry) {
  entry.done = 1;
  return entry;
}

RecoveryPlan Plan(std::vector<Entry> entries) { return PlanRecovery(entries); }
using Actions = std::vector<Action>;

// --- Nobody holds state -------------------------------------------------------------------------------------------------

TEST(Recovery, LetsRankZeroStartWhenNobodyHoldsState) {
  const RecoveryPlan plan = Plan({Nothing(), Nothing(), Nothing()});
  EXPECT_EQ(plan.actions, (Actions{Action::kInitialize, Action::kWait, Action::kWait}));
  EXPECT_TRUE(plan.donors.empty());
  EXPECT_EQ(plan.outcome_from, -1);
  EXPECT_FALSE(plan.done);
  EXPECT_EQ(plan.reason, "nobody holds state: rank 0 restores a checkpoint or initialises");
}

TEST(Recovery, StartsAWorldOfOne) {
  EXPECT_EQ(Plan({Nothing()}).actions, Actions{Action::kInitialize});
}

TEST(Recovery, IgnoresThePositionOfAMemberWithoutState) {
  Entry half_pulled = Nothing();
  half_pulled.position = 90;
  half_pulled.done = 1;
  EXPECT_EQ(Plan({half_pulled, Nothing()}).actions, (Actions{Action::kInitialize, Action::kWait}));
  const RecoveryPlan plan = Plan({half_pulled, At(5)});
  EXPECT_EQ(plan.target, 5u);
  EXPECT_FALSE(plan.done);
  EXPECT_EQ(plan.actions, (Actions{Action::kTransfer, Action::kNone}));
}

// --- All at one position ------------------------------------------------------------------------------------------------

TEST(Recovery, DoesNothingWhenAllAreAtOnePosition) {
  const RecoveryPlan plan = Plan({Ahead(7), Reduced(7), At(7)});
  EXPECT_EQ(plan.target, 7u);
  EXPECT_EQ(plan.actions, (Actions{Action::kNone, Action::kNone, Action::kNone}));
  EXPECT_EQ(plan.donors, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(plan.reason, "3 of 3 members are at position 7; 0 redo one vote, 0 pull the state");
}

TEST(Recovery, CountsPositionZeroAsState) {
  const RecoveryPlan plan = Plan({Nothing(), At(0)});
  EXPECT_EQ(plan.target, 0u);
  EXPECT_EQ(plan.actions, (Actions{Action::kTransfer, Action::kNone}));
  EXPECT_EQ(plan.donors, std::vector<int>{1});
  EXPECT_EQ(plan.outcome_from, -1) << "no vote comes before position 0, and kNone + 1 is 0";
}

// --- Redo ---------------------------------------------------------------------------------------------------------------

TEST(Recovery, LetsAMemberRedoTheVoteWhoseGradientItHolds) {
  const RecoveryPlan plan = Plan({Reduced(7), Ahead(8)});
  EXPECT_EQ(plan.target, 8u);
  EXPECT_EQ(plan.actions, (Actions{Action::kRedo, Action::kNone}));
  EXPECT_EQ(plan.donors, std::vector<int>{1});
  EXPECT_EQ(plan.outcome_from, 1);
  EXPECT_EQ(plan.reason, "1 of 2 members are at position 8; 1 redo one vote, 0 pull the state");
}

TEST(Recovery, LetsAllWhoAreBehindRedoFromTheFirstWhoHoldsTheOutcome) {
  const RecoveryPlan plan = Plan({Reduced(7), At(8), Reduced(7), Ahead(8), Ahead(8)});
  EXPECT_EQ(plan.actions,
            (Actions{Action::kRedo, Action::kNone, Action::kRedo, Action::kNone, Action::kNone}));
  EXPECT_EQ(plan.donors, (std::vector<int>{1, 3, 4}));
  EXPECT_EQ(plan.outcome_from, 3)
      << "rank 1 is ahead but has pulled its state, and holds no outcome";
}

TEST(Recovery, RedoesTheVoteAtPositionZero) {
  Entry behind = At(0);
  behind.reduced_at = 0;
  EXPECT_EQ(Plan({Ahead(1), behind}).actions, (Actions{Action::kNone, Action::kRedo}));
}

TEST(Recovery, PullsTheStateWhenTheGradientWasOverwritten) {
  EXPECT_EQ(Plan({At(7), Ahead(8)}).actions, (Actions{Action::kTransfer, Action::kNone}));
}

TEST(Recovery, PullsTheStateWhenNobodyHoldsTheOutcome) {
  const RecoveryPlan plan = Plan({Reduced(7), At(8)});
  EXPECT_EQ(plan.outcome_from, -1);
  EXPECT_EQ(plan.actions, (Actions{Action::kTransfer, Action::kNone}));
}

TEST(Recovery, PullsTheStateWhenTheOutcomeThatIsHeldIsOlder) {
  Entry ahead = At(8);
  ahead.outcome_of = 6;
  EXPECT_EQ(Plan({Reduced(7), ahead}).actions, (Actions{Action::kTransfer, Action::kNone}));
}

TEST(Recovery, DoesNotTakeTheOutcomeOfAMemberThatIsBehind) {
  // It has the outcome of its own vote, but died before applying it could be seen: only states count.
  Entry behind = Reduced(7);
  behind.outcome_of = 7;
  const RecoveryPlan plan = Plan({behind, At(8)});
  EXPECT_EQ(plan.outcome_from, -1);
  EXPECT_EQ(plan.actions, (Actions{Action::kTransfer, Action::kNone}));
}

TEST(Recovery, PullsTheStateWhenMoreThanOneVoteIsMissing) {
  EXPECT_EQ(Plan({Reduced(6), Ahead(8)}).actions, (Actions{Action::kTransfer, Action::kNone}));
  EXPECT_EQ(Plan({Reduced(0), Ahead(8)}).actions, (Actions{Action::kTransfer, Action::kNone}));
}

TEST(Recovery, DoesNotRedoTheGradientOfAnotherPosition) {
  Entry behind = At(7);
  behind.reduced_at = 6;
  EXPECT_EQ(Plan({behind, Ahead(8)}).actions, (Actions{Action::kTransfer, Action::kNone}));
}

// --- Joiners ------------------------------------------------------------------------------------------------------------

TEST(Recovery, LetsJoinersPullFromAllWhoAreAtTheTarget) {
  const RecoveryPlan plan = Plan({Ahead(8), Nothing(), Reduced(7), Ahead(8), Nothing()});
  EXPECT_EQ(plan.actions, (Actions{Action::kNone, Action::kTransfer, Action::kRedo, Action::kNone,
                                   Action::kTransfer}));
  EXPECT_EQ(plan.donors, (std::vector<int>{0, 3}));
  EXPECT_EQ(plan.reason, "2 of 5 members are at position 8; 1 redo one vote, 2 pull the state");
}

TEST(Recovery, LetsTheFurthestStateWinEvenIfAReturningMemberBringsIt) {
  const RecoveryPlan plan = Plan({At(3), At(3), At(40)});
  EXPECT_EQ(plan.target, 40u);
  EXPECT_EQ(plan.actions, (Actions{Action::kTransfer, Action::kTransfer, Action::kNone}));
  EXPECT_EQ(plan.donors, std::vector<int>{2});
}

// --- The end of training ------------------------------------------------------------------------------------------------

TEST(Recovery, IsDoneWhenAMemberAtTheTargetIs) {
  EXPECT_TRUE(Plan({Done(Ahead(8)), Reduced(7)}).done);
  EXPECT_TRUE(Plan({At(8), Done(Ahead(8))}).done);
  EXPECT_TRUE(Plan({Done(At(8)), Done(At(8))}).done);
}

TEST(Recovery, IsNotDoneWhenOnlyAMemberBehindIs) {
  EXPECT_FALSE(Plan({Done(At(7)), Ahead(8)}).done);
  EXPECT_FALSE(Plan({Done(Nothing()), Ahead(8)}).done);
}

// --- Every combination of two or three members --------------------------------------------------------------------------

std::vector<Entry> AllEntries() {
  std::vector<Entry> all;
  for (const uint64_t state : {0, 1}) {
    for (const uint64_t position : {0, 1, 2, 3}) {
      for (const uint64_t reduced : {Entry::kNone, position, position - 1}) {
        for (const uint64_t outcome : {Entry::kNone, position, position - 1}) {
          for (const uint64_t done : {0, 1})
            all.push_back({0, state, position, reduced, outcome, done});
        }
      }
    }
  }
  return all;
}

// What must hold of any plan, said without the rules that make it.
void ExpectSound(const std::vector<Entry>& entries, const RecoveryPlan& plan) {
  ASSERT_EQ(plan.actions.size(), entries.size());
  if (plan.Any(Action::kInitialize)) {
    for (const Entry& entry : entries) ASSERT_EQ(entry.has_state, 0u);
    return;
  }
  ASSERT_FALSE(plan.donors.empty());
  for (const int donor : plan.donors) {
    ASSERT_EQ(entries[static_cast<size_t>(donor)].position, plan.target);
    ASSERT_EQ(plan.actions[static_cast<size_t>(donor)], Action::kNone);
  }
  for (size_t rank = 0; rank < entries.size(); ++rank) {
    const Entry& entry = entries[rank];
    ASSERT_TRUE(entry.has_state == 0 || entry.position <= plan.target)
        << "a committed vote would be lost";
    if (plan.actions[rank] == Action::kNone) {
      ASSERT_TRUE(entry.has_state == 1 && entry.position == plan.target);
    }
    if (plan.actions[rank] != Action::kRedo) continue;
    ASSERT_EQ(entry.has_state, 1u);
    ASSERT_EQ(entry.position + 1, plan.target);
    ASSERT_EQ(entry.reduced_at, entry.position);
    ASSERT_GE(plan.outcome_from, 0);
    ASSERT_EQ(entries[static_cast<size_t>(plan.outcome_from)].outcome_of, entry.position);
  }
}

TEST(Recovery, IsSoundForEveryPairOfMembers) {
  const std::vector<Entry> all = AllEntries();
  for (const Entry& a : all) {
    for (const Entry& b : all) ExpectSound({a, b}, Plan({a, b}));
  }
}

TEST(Recovery, IsSoundForEveryTripleOfMembersAtNeighbouringPositions) {
  const std::vector<Entry> some = {Nothing(),        At(1), Ahead(1),       Reduced(1),
                                   Done(Reduced(1)), At(2), Done(Ahead(2)), Ahead(2),
                                   Reduced(2)};
  for (const Entry& a : some) {
    for (const Entry& b : some) {
      for (const Entry& c : some) ExpectSound({a, b, c}, Plan({a, b, c}));
    }
  }
}

// --- Who sends which page -----------------------------------------------------------------------------------------------

TEST(DonorOf, SpreadsThePagesOfAJoinerOverAllDonors) {
  const std::vector<int> donors = {0, 2, 5};
  std::map<int, int> pages;
  for (size_t index = 0; index < 300; ++index) ++pages[DonorOf(index, 1, donors)];
  EXPECT_EQ(pages, (std::map<int, int>{{0, 100}, {2, 100}, {5, 100}}));
}

TEST(DonorOf, LetsNeighbouringJoinersStartWithDifferentDonors) {
  const std::vector<int> donors = {0, 1, 2};
  EXPECT_EQ(DonorOf(0, 3, donors), 0);
  EXPECT_EQ(DonorOf(0, 4, donors), 1);
  EXPECT_EQ(DonorOf(0, 5, donors), 2);
}

TEST(DonorOf, AsksTheOnlyDonorForEverything) {
  const std::vector<int> donors = {4};
  for (size_t index = 0; index < 5; ++index) EXPECT_EQ(DonorOf(index, 2, donors), 4);
}

}  // namespace
}  // namespace muster
