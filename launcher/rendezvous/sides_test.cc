#include "launcher/rendezvous/sides.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace muster {
namespace {

using Ranks = std::vector<int>;

Ranks First(int count) {
  Ranks ranks(static_cast<size_t>(count));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// Of so many, each of `side` says that it cannot reach any of the others, and these say the same of it.
Sides SplitOff(const Ranks& side, int count = 5) {
  Ranks others;
  std::ranges::set_difference(First(count), side, std::back_inserter(others));
  Sides sides;
  for (const int rank : side) sides.Say(rank, others);
  for (const int rank : others) sides.Say(rank, side);
  return sides;
}

TEST(Sides, AreOneWhereNothingIsCut) {
  EXPECT_EQ(Sides().Largest(First(5)), First(5));
  EXPECT_EQ(SplitOff({0}).Largest({}), Ranks{});
}

TEST(Sides, TheLargerOfTwoIsTakenWhereverTheLowRanksAre) {
  EXPECT_EQ(SplitOff({3, 4}).Largest(First(5)), (Ranks{0, 1, 2}));
  EXPECT_EQ(SplitOff({0, 1}).Largest(First(5)), (Ranks{2, 3, 4}));
  EXPECT_EQ(SplitOff({2}).Largest(First(5)), (Ranks{0, 1, 3, 4}));
}

TEST(Sides, OfTwoEqualOnesThatWithoutTheLastIsTaken) {
  EXPECT_EQ(SplitOff({0, 3}).Largest(First(4)), (Ranks{1, 2}));
  EXPECT_EQ(SplitOff({0}).Largest({0, 1}), Ranks{0});
}

TEST(Sides, ASingleBrokenPathCostsOneEndOfIt) {
  Sides sides;
  sides.Say(1, {3});
  sides.Say(3, {1});
  EXPECT_EQ(sides.Largest(First(5)), (Ranks{0, 1, 2, 4}));
}

// A member that began to connect late is missed by those who gave up before.
TEST(Sides, OnlyWhatBothSayIsBelieved) {
  Sides sides;
  sides.Say(0, {4});
  sides.Say(1, {4});
  EXPECT_EQ(sides.Largest(First(5)), First(5));
  sides.Say(9, {0});
  sides.Say(0, {9});
  EXPECT_EQ(sides.Largest(First(5)), First(5));
}

TEST(Sides, WhatWasSaidBeforeIsForgotten) {
  Sides sides = SplitOff({3, 4});
  sides.Say(3, {4});
  EXPECT_EQ(sides.Largest(First(5)), (Ranks{0, 1, 2, 3}));
  sides.Forget(4);
  EXPECT_EQ(sides.Largest(First(5)), First(5));
  sides.Say(4, {3});
  EXPECT_EQ(sides.Largest(First(5)), (Ranks{0, 1, 2, 3}));
}

// Thousands of members look for their side at every event of a recovery.
TEST(Sides, AreFoundSoonAmongThousands) {
  constexpr int kMembers = 4000;
  Ranks odd;
  for (int rank = 1; rank < kMembers; rank += 2) odd.push_back(rank);
  Sides sides = SplitOff(odd, kMembers);
  const Ranks side = sides.Largest(First(kMembers));
  EXPECT_EQ(side.size(), static_cast<size_t>(kMembers / 2));
  EXPECT_EQ(side.front(), 0);
  for (const int rank : odd) sides.Forget(rank);
  for (int event = 0; event < 10'000; ++event) {
    ASSERT_EQ(sides.Largest(side).size(), side.size());
  }
}

}  // namespace
}  // namespace muster
