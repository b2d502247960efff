#include "launcher/rendezvous/sides.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

using Members = std::vector<std::string>;

const Members kFive = {"w-0", "w-1", "w-2", "w-3", "w-4"};

// Each of `side` says that it cannot reach any of the others, and these say the same of it.
Unreachable SplitOff(const std::set<std::string>& side) {
  Unreachable unreachable;
  for (const std::string& inside : kFive) {
    for (const std::string& outside : kFive) {
      if (!side.contains(inside) || side.contains(outside)) continue;
      unreachable[inside].insert(outside);
      unreachable[outside].insert(inside);
    }
  }
  return unreachable;
}

TEST(LargestSide, IsEverybodyWhereNothingIsCut) {
  EXPECT_EQ(LargestSide(kFive, {}), kFive);
  EXPECT_EQ(LargestSide({}, SplitOff({"w-0"})), Members{});
}

TEST(LargestSide, IsTheLargerOfTwoWhereverTheLowNumbersAre) {
  EXPECT_EQ(LargestSide(kFive, SplitOff({"w-3", "w-4"})), (Members{"w-0", "w-1", "w-2"}));
  EXPECT_EQ(LargestSide(kFive, SplitOff({"w-0", "w-1"})), (Members{"w-2", "w-3", "w-4"}));
  EXPECT_EQ(LargestSide(kFive, SplitOff({"w-2"})), (Members{"w-0", "w-1", "w-3", "w-4"}));
}

TEST(LargestSide, OfTwoEqualOnesIsThatWithoutTheLast) {
  EXPECT_EQ(LargestSide({"w-0", "w-1", "w-2", "w-3"}, SplitOff({"w-0", "w-3"})),
            (Members{"w-1", "w-2"}));
  EXPECT_EQ(LargestSide({"w-0", "w-1"}, SplitOff({"w-0"})), Members{"w-0"});
}

TEST(LargestSide, LeavesOutOneEndOfASingleBrokenPath) {
  EXPECT_EQ(LargestSide(kFive, {{"w-1", {"w-3"}}, {"w-3", {"w-1"}}}),
            (Members{"w-0", "w-1", "w-2", "w-4"}));
}

// A member that began to connect late is missed by those who gave up before.
TEST(LargestSide, BelievesOnlyWhatBothSay) {
  EXPECT_EQ(LargestSide(kFive, {{"w-0", {"w-4"}}, {"w-1", {"w-4"}}}), kFive);
  EXPECT_EQ(LargestSide(kFive, {{"w-0", {"w-9"}}, {"w-9", {"w-0"}}}), kFive);
}

}  // namespace
}  // namespace muster
