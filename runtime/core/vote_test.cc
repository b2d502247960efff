#include "runtime/core/vote.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace muster {
namespace {

using Limits = std::numeric_limits<double>;

// What the last collective of a step does to the members' votes.
Vote Reduce(std::vector<Vote> votes) {
  Vote all = votes.front();
  for (const Vote& vote : votes) {
    for (size_t i = 0; i < all.lanes().size(); ++i) {
      all.lanes()[i] = std::max(all.lanes()[i], vote.lanes()[i]);
    }
  }
  return all;
}

Vote OfStep(uint64_t step, int micro_batches, size_t blocks = 0) {
  Vote vote(micro_batches, blocks);
  vote.SetStep(step);
  return vote;
}

// The loss that comes out when one member contributes `loss` and another says nothing about it.
double ThroughTheWire(double loss) {
  Vote vote = OfStep(0, 1);
  vote.SetLoss(0, loss);
  return Reduce({OfStep(0, 1), vote, OfStep(0, 1)}).MeanLoss();
}

TEST(Vote, SaysNothingUntilAMemberSaysSomething) {
  const Vote vote(2, 3);
  EXPECT_FALSE(vote.miss());
  EXPECT_FALSE(vote.non_finite());
  EXPECT_FALSE(vote.stop());
  EXPECT_EQ(vote.SwitchTo(0), 0u);
  EXPECT_FALSE(vote.consistent());
}

TEST(Vote, HasAFixedNumberOfLanesForItsMicroBatchesAndBlocks) {
  EXPECT_EQ(Vote(0, 0).lanes().size(), 7u);
  EXPECT_EQ(Vote(5, 0).lanes().size(), 7u + 5 * 3);
  EXPECT_EQ(Vote(5, 11).lanes().size(), 7u + 5 * 3 + 11);
}

TEST(Vote, RaisesAFlagThatAnyMemberRaises) {
  Vote miss = OfStep(1, 1);
  miss.SetMiss();
  Vote non_finite = OfStep(1, 1);
  non_finite.SetNonFinite();
  Vote stop = OfStep(1, 1);
  stop.SetStop();
  const Vote quiet = OfStep(1, 1);

  EXPECT_TRUE(Reduce({quiet, miss}).miss());
  EXPECT_FALSE(Reduce({quiet, miss}).non_finite());
  EXPECT_FALSE(Reduce({quiet, miss}).stop());
  EXPECT_TRUE(Reduce({non_finite, quiet}).non_finite());
  EXPECT_FALSE(Reduce({non_finite, quiet}).miss());
  EXPECT_TRUE(Reduce({quiet, quiet, stop}).stop());
  const Vote all = Reduce({miss, non_finite, stop});
  EXPECT_TRUE(all.miss() && all.non_finite() && all.stop());
}

TEST(Vote, KeepsEveryBitOfALoss) {
  const double losses[] = {
      0.0,
      1.0,
      -1.0,
      0.1,
      -1e300,
      Limits::max(),
      Limits::lowest(),
      Limits::min(),
      Limits::denorm_min(),
      -Limits::denorm_min(),
      Limits::min() / 2,
      Limits::infinity(),
      -Limits::infinity(),
      std::bit_cast<double>(uint64_t{0x3ff00000ffffffff}),   // the low half would be negative
      std::bit_cast<double>(uint64_t{0xbff0000080000000})};  // both halves would be
  for (const double loss : losses) {
    EXPECT_EQ(std::bit_cast<uint64_t>(ThroughTheWire(loss)), std::bit_cast<uint64_t>(loss)) << loss;
  }
}

// The sum starts at +0.0, and IEEE 754 says +0.0 + -0.0 = +0.0: the same on all members, whoever computed it.
TEST(Vote, ReportsAMeanLossOfPlusZeroForMinusZero) {
  EXPECT_EQ(std::bit_cast<uint64_t>(ThroughTheWire(-0.0)), std::bit_cast<uint64_t>(0.0));
}

TEST(Vote, KeepsALossThatIsNotANumber) {
  EXPECT_TRUE(std::isnan(ThroughTheWire(Limits::quiet_NaN())));
  EXPECT_TRUE(std::isnan(ThroughTheWire(-Limits::quiet_NaN())));
  EXPECT_TRUE(std::isnan(ThroughTheWire(std::bit_cast<double>(uint64_t{0xfff8000000000000}))));
}

TEST(Vote, CountsALossWhoseBitsAreTheSmallestLanesAsPresent) {
  Vote vote = OfStep(3, 1);
  vote.SetLoss(0, std::bit_cast<double>(
                      uint64_t{0x8000000080000000}));  // both lanes are INT32_MIN, as if unset
  EXPECT_TRUE(Reduce({vote, OfStep(3, 1)}).consistent());
}

TEST(Vote, SumsTheLossesInTheOrderOfTheirMicroBatches) {
  // In another order the small ones would survive: 1 + 1 - 1e16 + 1e16 = 2.
  const double losses[] = {1e16, 1.0, -1e16, 1.0};
  Vote first = OfStep(0, 4);
  first.SetLoss(3, losses[3]);
  first.SetLoss(1, losses[1]);
  Vote second = OfStep(0, 4);
  second.SetLoss(2, losses[2]);
  second.SetLoss(0, losses[0]);
  const double expected = (((0.0 + losses[0]) + losses[1]) + losses[2] + losses[3]) / 4;

  EXPECT_EQ(Reduce({first, second}).MeanLoss(), expected);
  EXPECT_EQ(Reduce({second, first}).MeanLoss(), expected);
}

TEST(Vote, IsInconsistentWithoutTheLossOfEveryMicroBatch) {
  Vote first = OfStep(7, 3);
  first.SetLoss(0, 0.5);
  Vote second = OfStep(7, 3);
  second.SetLoss(2, 0.5);
  EXPECT_FALSE(Reduce({first, second}).consistent());
  second.SetLoss(1, 0.5);
  EXPECT_TRUE(Reduce({first, second}).consistent());
}

TEST(Vote, IsInconsistentWhenMembersVoteOnDifferentSteps) {
  Vote ahead = OfStep(8, 2);
  ahead.SetLoss(0, 1);
  Vote behind = OfStep(7, 2);
  behind.SetLoss(1, 1);
  EXPECT_FALSE(Reduce({ahead, behind}).consistent());
  EXPECT_FALSE(Reduce({behind, ahead}).consistent());
  behind.SetStep(8);
  EXPECT_TRUE(Reduce({ahead, behind}).consistent());
}

TEST(Vote, KnowsItsStepUpToTheLargest) {
  for (const uint64_t step : {uint64_t{0}, uint64_t{1}, uint64_t{INT32_MAX}}) {
    Vote vote = OfStep(step, 0);
    EXPECT_EQ(vote.step(), step);
    EXPECT_TRUE(vote.consistent());
  }
}

TEST(VoteDeathTest, RefusesNumbersThatDoNotFit) {
  Vote vote(1, 0);
  EXPECT_DEATH(vote.SetStep(uint64_t{INT32_MAX} + 1), "step 2147483648");
  EXPECT_DEATH(vote.SetPrepared(uint64_t{INT32_MAX} + 1), "generation 2147483648");
}

// --- Switching ----------------------------------------------------------------------------------------------------------

uint64_t Decided(std::vector<uint64_t> prepared, uint64_t active) {
  std::vector<Vote> votes;
  for (const uint64_t number : prepared) {
    votes.push_back(OfStep(4, 0));
    votes.back().SetPrepared(number);
  }
  return Reduce(votes).SwitchTo(active);
}

TEST(SwitchTo, SwitchesWhenAllHavePreparedTheSameNewerGeneration) {
  EXPECT_EQ(Decided({3}, 2), 3u);
  EXPECT_EQ(Decided({3, 3, 3}, 2), 3u);
  EXPECT_EQ(Decided({9, 9}, 2), 9u) << "numbers in between may have been given up";
}

TEST(SwitchTo, StaysWhileOneMemberHasPreparedNothing) {
  EXPECT_EQ(Decided({3, 0, 3}, 2), 0u);
  EXPECT_EQ(Decided({0, 0}, 2), 0u);
}

TEST(SwitchTo, StaysWhenOneMemberHasPreparedAnotherGeneration) {
  EXPECT_EQ(Decided({3, 4}, 2), 0u);
  EXPECT_EQ(Decided({4, 3, 4}, 2), 0u);
}

TEST(SwitchTo, NeverSwitchesToTheActiveGenerationOrAnOlderOne) {
  EXPECT_EQ(Decided({2, 2}, 2), 0u);
  EXPECT_EQ(Decided({1, 1}, 2), 0u);
}

TEST(SwitchTo, TakesTheLastWordOfAMember) {
  Vote vote = OfStep(1, 0);
  vote.SetPrepared(5);
  vote.SetPrepared(0);
  EXPECT_EQ(vote.SwitchTo(1), 0u);
}

// --- Exponents ----------------------------------------------------------------------------------------------------------

TEST(Vote, TakesTheLargestExponentOfEachBlock) {
  Vote first = OfStep(0, 1, 3);
  first.SetExponents(std::vector<int16_t>{-126, 5, INT16_MAX});
  Vote second = OfStep(0, 1, 3);
  second.SetExponents(std::vector<int16_t>{-149, 7, INT16_MIN});
  std::vector<int16_t> observed(3);
  Reduce({first, second}).GetExponents(observed);
  EXPECT_EQ(observed, (std::vector<int16_t>{-126, 7, INT16_MAX}));
}

TEST(Vote, ReportsTheSmallestExponentForABlockThatNobodySaw) {
  std::vector<int16_t> observed{1, 2};
  OfStep(0, 2, 2).GetExponents(observed);
  EXPECT_EQ(observed, (std::vector<int16_t>{INT16_MIN, INT16_MIN}));
}

TEST(Vote, KeepsExponentsAndLossesApart) {
  Vote vote = OfStep(2, 2, 2);
  vote.SetExponents(std::vector<int16_t>{11, 12});
  vote.SetLoss(0, 1.5);
  vote.SetLoss(1, 2.5);
  std::vector<int16_t> observed(2);
  vote.GetExponents(observed);
  EXPECT_EQ(observed, (std::vector<int16_t>{11, 12}));
  EXPECT_EQ(vote.MeanLoss(), 2.0);
  EXPECT_TRUE(vote.consistent());
}

}  // namespace
}  // namespace muster
