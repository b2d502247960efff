#include "runtime/core/micro_batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <vector>

namespace muster {
namespace {

TEST(ShareOf, CoversEveryMicroBatchExactlyOnceInRankOrder) {
  for (int micro_batches = 1; micro_batches <= 40; ++micro_batches) {
    for (int world = 1; world <= micro_batches; ++world) {
      int next = 0;
      for (int rank = 0; rank < world; ++rank) {
        const MicroBatchRange share = ShareOf(rank, world, micro_batches);
        ASSERT_EQ(share.begin, next)
            << "rank " << rank << " of " << world << ", V " << micro_batches;
        next = share.end;
      }
      ASSERT_EQ(next, micro_batches) << "world " << world;
    }
  }
}

TEST(ShareOf, GivesSizesThatDifferByAtMostOne) {
  for (int micro_batches = 1; micro_batches <= 40; ++micro_batches) {
    for (int world = 1; world <= micro_batches; ++world) {
      int smallest = INT_MAX;
      int largest = 0;
      for (int rank = 0; rank < world; ++rank) {
        const int size = ShareOf(rank, world, micro_batches).size();
        smallest = std::min(smallest, size);
        largest = std::max(largest, size);
      }
      ASSERT_LE(largest - smallest, 1) << "world " << world << ", V " << micro_batches;
      ASSERT_GE(smallest, 1) << "a rank without work, world " << world << ", V " << micro_batches;
    }
  }
}

TEST(ShareOf, GivesAllToAWorldOfOne) { EXPECT_EQ(ShareOf(0, 1, 7), (MicroBatchRange{0, 7})); }

TEST(ShareOf, DoesNotOverflowForLargeWorlds) {
  EXPECT_EQ(ShareOf(99'999, 100'000, 100'000), (MicroBatchRange{99'999, 100'000}));
  EXPECT_EQ(ShareOf(99'999, 100'000, INT_MAX).end, INT_MAX);
}

TEST(FirstShareOf, IsAllOfItWhoeverHasTrainedBefore) {
  constexpr int kWorld = 5;
  constexpr int kMicroBatches = 12;
  for (unsigned mask = 0; mask < 1U << kWorld; ++mask) {
    std::vector<int> veterans;
    for (int rank = 0; rank < kWorld; ++rank) {
      if ((mask >> rank & 1U) != 0) veterans.push_back(rank);
    }
    int next = 0;
    for (int rank = 0; rank < kWorld; ++rank) {
      const MicroBatchRange share = FirstShareOf(rank, veterans, kWorld, kMicroBatches);
      const bool joins = !veterans.empty() && (mask >> rank & 1U) == 0;
      EXPECT_EQ(share.size() == 0, joins) << "rank " << rank << ", veterans " << mask;
      if (joins) continue;
      EXPECT_EQ(share.begin, next) << "rank " << rank << ", veterans " << mask;
      next = share.end;
    }
    EXPECT_EQ(next, kMicroBatches) << "veterans " << mask;
  }
}

}  // namespace
}  // namespace muster
