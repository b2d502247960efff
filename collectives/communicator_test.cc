#include "collectives/communicator.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(SliceBegin, CoversAllElementsInOrderAndAligned) {
  for (const size_t count : {0, 1, 15, 16, 17, 1023, 1024, 1025, 65537}) {
    for (int size = 1; size <= 9; ++size) {
      EXPECT_EQ(SliceBegin(count, size, 0), 0u);
      EXPECT_EQ(SliceBegin(count, size, size), count);
      for (int rank = 0; rank < size; ++rank) {
        const size_t begin = SliceBegin(count, size, rank);
        EXPECT_LE(begin, SliceBegin(count, size, rank + 1));
        EXPECT_TRUE(begin % 16 == 0 || begin == count) << begin << " of " << count;
      }
    }
  }
}

TEST(SliceBegin, SharesTheElementsEvenly) {
  const size_t count = 16 * 100 + 3;
  for (int rank = 0; rank < 7; ++rank) {
    const size_t length = SliceBegin(count, 7, rank + 1) - SliceBegin(count, 7, rank);
    EXPECT_GE(length, size_t{16 * 13 + 3});
    EXPECT_LE(length, size_t{16 * 15});
  }
}

TEST(SliceBegin, DoesNotOverflowForHugeCounts) {
  const size_t count = size_t{1} << 62;
  EXPECT_EQ(SliceBegin(count, 1000, 1000), count);
  EXPECT_GT(SliceBegin(count, 1000, 999), count / 1000 * 998);
}

}  // namespace
}  // namespace muster
