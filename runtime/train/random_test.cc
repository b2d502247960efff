#include "runtime/train/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

namespace muster {
namespace {

using Block = std::array<uint32_t, 4>;

// Random123 (D. E. Shaw Research), kat_vectors, lines "philox4x32 10".
TEST(Philox, AgreesWithThePublishedVectors) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, IsAFunctionOfItsKeyAlone) {
  Random first(7, 8, 9);
  Random second(7, 8, 9);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(first.Next(), second.Next());
}

TEST(Random, GoesOnFromACopyWhereTheOriginalStood) {
  Random original(3);
  original.Next();
  Random copy = original;
  EXPECT_EQ(copy.Next(), original.Next());
}

// 64-bit parts of the key must count with all their bits, and not be interchangeable.
TEST(Random, DiffersBetweenStreams) {
  std::set<std::pair<uint32_t, uint32_t>> starts;
  const std::vector<uint64_t> values = {0, 1, 2, uint64_t{1} << 32, uint64_t{1} << 63};
  for (uint64_t seed : values) {
    for (uint64_t stream : values) {
      for (uint64_t substream : values) {
        Random random(seed, stream, substream);
        const uint32_t first = random.Next();
        starts.insert({first, random.Next()});
      }
    }
  }
  EXPECT_EQ(starts.size(), values.size() * values.size() * values.size());
}

// The bits of a run depend on these: they may change with a new major version only.
TEST(Random, KeepsItsNumbersFromVersionToVersion) {
  Random random(1, 2, 3);
  const Block first = {random.Next(), random.Next(), random.Next(), random.Next()};
  const auto identity = Philox4x32({2, 0, 3, 0}, {1, 0});
  EXPECT_EQ(first, Philox4x32({0, 0, identity[2], identity[3]}, {identity[0], identity[1]}));
  const auto second = Philox4x32({1, 0, identity[2], identity[3]}, {identity[0], identity[1]});
  EXPECT_EQ(random.Next(), second[0]);
}

TEST(Random, UniformFillsTheUnitIntervalEvenly) {
  Random random(11);
  constexpr int kBins = 64;
  constexpr int kDraws = 64'000;
  constexpr double kExpected = double{kDraws} / kBins;
  std::vector<int> counts(kBins);
  for (int i = 0; i < kDraws; ++i) {
    const float value = random.Uniform();
    ASSERT_GE(value, 0.0f);
    ASSERT_LT(value, 1.0f);
    ++counts[static_cast<int>(value * kBins)];
  }
  double chi_square = 0;
  for (int count : counts) chi_square += std::pow(count - kExpected, 2) / kExpected;
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
  EXPECT_GT(chi_square, 32.0);   // more even than chance would be as suspicious, p = 0.999
}

TEST(Random, UniformStaysBelowItsUpperEndEvenWhenRoundingWouldReachIt) {
  Random random(12);
  for (int i = 0; i < 100'000; ++i) {
    const float value = random.Uniform(16'777'215.0f, 16'777'216.0f);
    ASSERT_EQ(value, 16'777'215.0f);
  }
}

TEST(Random, UniformCoversAnInterval) {
  Random random(13);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const float value = random.Uniform(-3.0f, 5.0f);
    ASSERT_GE(value, -3.0f);
    ASSERT_LT(value, 5.0f);
    sum += value;
  }
  EXPECT_NEAR(sum / 100'000, 1.0, 0.03);  // 4 standard errors of 8 / sqrt(12 x 100,000)
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  Random random(14);
  constexpr int kDraws = 200'000;
  double moments[5] = {};
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = random.Normal();
    ASSERT_TRUE(std::isfinite(value));
    for (int power = 1; power < 5; ++power) moments[power] += std::pow(value, power) / kDraws;
    beyond_two += std::abs(value) > 2 ? 1 : 0;
  }
  // Tolerances are about four standard errors.
  EXPECT_NEAR(moments[1], 0, 0.01);
  EXPECT_NEAR(moments[2], 1, 0.013);
  EXPECT_NEAR(moments[3], 0, 0.035);
  EXPECT_NEAR(moments[4], 3, 0.09);
  EXPECT_NEAR(beyond_two / double{kDraws}, 0.0455, 0.002);
}

TEST(Random, NormalDrawsAreUncorrelated) {
  Random random(15);
  constexpr int kDraws = 100'000;
  double previous = random.Normal();
  double product = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = random.Normal();
    product += previous * value / kDraws;
    previous = value;
  }
  EXPECT_NEAR(product, 0, 0.013);
}

TEST(Random, BelowReachesEveryValueEquallyOften) {
  Random random(16);
  std::vector<int> counts(6);
  for (int i = 0; i < 60'000; ++i) ++counts[random.Below(6)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 370);
}

TEST(Random, BelowOneIsZero) {
  Random random(17);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(random.Below(1), 0u);
}

// With the remainder of a plain 64-bit draw, the lower half would come twice as often as the upper one.
TEST(Random, BelowIsUnbiasedForBoundsNearTheFullRange) {
  Random random(18);
  const uint64_t bound = uint64_t{3} << 62;
  int lower_third = 0;
  for (int i = 0; i < 30'000; ++i) {
    const uint64_t value = random.Below(bound);
    ASSERT_LT(value, bound);
    lower_third += value < bound / 3 ? 1 : 0;
  }
  EXPECT_NEAR(lower_third, 10'000, 330);
}

TEST(RandomDeathTest, BelowZeroIsAProgrammersError) {
  Random random(19);
  EXPECT_DEATH(random.Below(0), "bound of at least 1");
}

}  // namespace
}  // namespace muster
