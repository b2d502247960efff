#include "launcher/verbs/ledger.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// V = 4 micro-batches of 5 samples; 30 samples are an epoch.
constexpr const char* kHead = "{\"dataset\":30,\"micro_batches\":4,\"batch_size\":5}\n";

std::string Line(uint64_t step, uint64_t generation, int begin, int end) {
  return fmt::format(
      "{{\"step\":{},\"generation\":{},\"committed_in\":0,\"micro_batches\":[{},{}],"
      "\"position\":{},\"samples\":{}}}\n",
      step, generation, begin, end, step * 20 + static_cast<uint64_t>(begin) * 5,
      (end - begin) * 5);
}

TEST(Ledger, ProvesThatTwoWorkersUsedEachSampleOnce) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 2) + Line(1, 1, 0, 2) + Line(2, 1, 0, 2));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4) + Line(1, 1, 2, 4) + Line(2, 1, 2, 4));
  const LedgerReport report = fold.Prove(3);
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_EQ(report.steps, 3u);
  EXPECT_EQ(report.samples_consumed, 60u);
  EXPECT_EQ(report.redone_steps, 0u);
  EXPECT_THAT(report.epochs, ElementsAre(LedgerEpoch{0, 30, 0, 0}, LedgerEpoch{1, 30, 0, 0}));
}

TEST(Ledger, TakesTheLastGenerationOfAStepAndCountsTheOthersAsRedone) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 2) + Line(0, 2, 0, 4));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4));
  const LedgerReport report = fold.Prove(1);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.redone_steps, 1u);
  EXPECT_EQ(report.samples_consumed, 20u);
}

TEST(Ledger, CountsAStepThatWasComputedAgainAfterAnOverflowOnce) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 4) + Line(0, 1, 0, 4));
  const LedgerReport report = fold.Prove(1);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.samples_consumed, 20u);
}

TEST(Ledger, FindsAMicroBatchThatTwoWorkersComputed) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 3));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4));
  const LedgerReport report = fold.Prove(1);
  EXPECT_THAT(report.problems, Contains(HasSubstr("micro-batches 2 to 2 were computed twice")));
  EXPECT_THAT(report.epochs, ElementsAre(LedgerEpoch{0, 20, 0, 5}));
}

TEST(Ledger, FindsAMicroBatchThatNobodyComputed) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 1));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4));
  const LedgerReport report = fold.Prove(1);
  EXPECT_THAT(report.problems, Contains(HasSubstr("micro-batches 1 to 1 were computed by nobody")));
  EXPECT_THAT(report.epochs, ElementsAre(LedgerEpoch{0, 15, 5, 0}));
}

TEST(Ledger, FindsTheLastMicroBatchMissing) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 3));
  EXPECT_THAT(fold.Prove(1).problems, Contains(HasSubstr("3 of 4 micro-batches")));
}

TEST(Ledger, FindsAStepThatNobodyComputed) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 4) + Line(2, 1, 0, 4));
  EXPECT_THAT(fold.Prove(3).problems, Contains("nobody computed step 1"));
}

TEST(Ledger, FindsMembersOfAGenerationThatDisagreeOnHowOftenTheyComputed) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 2) + Line(0, 1, 0, 2));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4));
  EXPECT_THAT(fold.Prove(1).problems, ElementsAre(HasSubstr("computed it 1 times")));
}

TEST(Ledger, LeavesOutStepsThatAreNotCommittedYet) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 2) + Line(1, 1, 0, 2));
  fold.AddFile("w-1.1", kHead + Line(0, 1, 2, 4));
  const LedgerReport report = fold.Prove(1);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.steps, 1u);
}

TEST(Ledger, GoesToTheEndThatAWorkerHasWrittenDown) {
  LedgerFold fold;
  fold.AddFile("w-0.1",
               kHead + Line(0, 1, 0, 4) + Line(1, 1, 0, 4) + "{\"steps\":2,\"committed_in\":1}\n");
  EXPECT_EQ(fold.Prove(1).steps, 2u);
}

TEST(Ledger, BeginsWhereAResumedJobBegan) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(3, 1, 0, 4) + Line(4, 1, 0, 4));
  const LedgerReport report = fold.Prove(5);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.first_step, 3u);
  EXPECT_EQ(report.steps, 2u);
  EXPECT_THAT(report.epochs, ElementsAre(LedgerEpoch{2, 30, 0, 0}, LedgerEpoch{3, 10, 0, 0}));
}

TEST(Ledger, ForgivesALineThatADeathHasCutShortButNoOtherDamage) {
  LedgerFold cut;
  cut.AddFile("w-0.1", kHead + Line(0, 1, 0, 4) + "{\"step\":1,\"gen");
  EXPECT_TRUE(cut.Prove(1).ok());
  LedgerFold damaged;
  damaged.AddFile("w-0.1", kHead + std::string("{\"step\":0,\"gen\n") + Line(0, 1, 0, 4));
  EXPECT_THAT(damaged.Prove(1).problems, ElementsAre("line 2 of w-0.1 is no JSON object"));
}

TEST(Ledger, LooksNoFurtherThanAFullLedger) {
  LedgerFold fold;
  fold.AddFile("w-0.1", kHead + Line(0, 1, 0, 4) + Line(1, 1, 0, 4) + "{\"full\":true}\n");
  const LedgerReport report = fold.Prove(9);
  EXPECT_FALSE(report.complete);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.steps, 1u);
}

}  // namespace
}  // namespace muster
