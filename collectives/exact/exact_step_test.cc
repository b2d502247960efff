// Exact reduction, step by step: any split and order, misses, the redo, exponents from step to step.
#include "collectives/exact/exact_test_util.h"

namespace muster {
namespace {

template <typename Lane>
class ExactStep : public ExactLanes<Lane> {};
TYPED_TEST_SUITE(ExactStep, Lanes, LaneNames);

TYPED_TEST(ExactStep, AnySplitAndAnyOrderGiveTheSameBits) {
  Source source(Seed());
  for (int round = 0; round < 15; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const int micro_batches = 1 + static_cast<int>(source.Below(40));
    const ExactOptions options = this->Options(micro_batches);
    const Shape shape = static_cast<Shape>(source.Below(3));
    std::vector<std::vector<float>> gradients;
    for (int m = 0; m < micro_batches; ++m) gradients.push_back(source.Gradient(kLayout, shape));
    const BlockExponents exponents = this->Learn(kLayout, options, gradients);
    const auto alone = SumAlone<TypeParam>(kLayout, options, exponents, gradients);
    ASSERT_FALSE(alone.flags.miss);
    for (const size_t world : {1, 2, 3, 7, 64}) {
      const auto split = SumSplit<TypeParam>(kLayout, options, exponents, gradients, world, source);
      ASSERT_EQ(split.sum, alone.sum);
      ASSERT_EQ(split.observed, alone.observed);
      ASSERT_FALSE(split.flags.miss || split.flags.non_finite);
    }
  }
}

TYPED_TEST(ExactStep, AMissIsFlaggedExactlyWhenATermDoesNotFit) {
  Source source(Seed());
  const BlockLayout layout({2000});
  int misses = 0;
  for (int round = 0; round < 1200; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const ExactOptions options =
        this->Options(1 + static_cast<int>(source.Below(200)), source.Below(5));
    const int exponent = static_cast<int>(source.Below(250)) - 130;
    BlockExponents exponents(layout.blocks());
    for (int16_t& value : exponents.values()) value = static_cast<int16_t>(exponent);
    std::vector<float> gradient(layout.elements());
    // Right at the limit, give or take some units and floats.
    const int64_t most = std::numeric_limits<TypeParam>::max() / options.micro_batches;
    const auto limit = static_cast<double>(most);
    const double units = limit + 0.25 * (static_cast<double>(source.Below(17)) - 8);
    float edge = static_cast<float>(std::ldexp(units, -ModelScale(options, exponent)));
    for (size_t ulps = source.Below(3); ulps > 0; --ulps) edge = std::nextafter(edge, 0.0f);
    const float value = source.Below(2) == 0 ? edge : -edge;
    gradient[source.Below(gradient.size())] = value;
    const auto share = SumAlone<TypeParam>(layout, options, exponents, {gradient});
    ASSERT_EQ(share.flags.miss, ModelMisses(options, exponent, value)) << value;
    misses += share.flags.miss ? 1 : 0;
  }
  EXPECT_GT(misses, 150);
  EXPECT_LT(misses, 1050);
}

TYPED_TEST(ExactStep, AMissDoesNotDependOnTheSplit) {
  Source source(Seed());
  int misses = 0;
  for (int round = 0; round < 30; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const int micro_batches = 2 + static_cast<int>(source.Below(12));
    const ExactOptions options = this->Options(micro_batches);
    std::vector<std::vector<float>> gradients;
    for (int m = 0; m < micro_batches; ++m) {
      gradients.push_back(source.Gradient(kLayout, Shape::kNormal));
    }
    BlockExponents exponents = this->Learn(kLayout, options, gradients);
    // One element grows. The block's largest value was around 4, the scale has 4 bits of headroom: about 1 of 3 misses.
    gradients[source.Below(gradients.size())][source.Below(kLayout.elements())] =
        std::ldexp(1.0f, static_cast<int>(source.Below(12)));
    const auto alone = SumAlone<TypeParam>(kLayout, options, exponents, gradients);
    misses += alone.flags.miss ? 1 : 0;
    for (const size_t world : {2, 5}) {
      const auto split = SumSplit<TypeParam>(kLayout, options, exponents, gradients, world, source);
      ASSERT_EQ(split.flags.miss, alone.flags.miss);
      ASSERT_EQ(split.observed, alone.observed);
    }
  }
  EXPECT_GT(misses, 0);
}

TYPED_TEST(ExactStep, TheRedoAfterRaiseNeverMisses) {
  Source source(Seed());
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const int micro_batches = source.Below(4) == 0 ? 65536 : 1 << source.Below(16);
    // Without headroom the largest value sits right below its scale's edge.
    const ExactOptions options = this->Options(micro_batches, source.Below(2) == 0 ? 0 : 4);
    ASSERT_TRUE(options.Validate());
    const BlockLayout layout({1100, 1});
    std::vector<std::vector<float>> gradients;
    for (int m = 0; m < 3; ++m) gradients.push_back(source.Gradient(layout, Shape::kWholeRange));
    gradients[0][0] =
        std::nextafter(std::ldexp(1.0f, static_cast<int>(source.Below(270)) - 142), 0.0f);
    BlockExponents exponents(layout.blocks());
    const auto first = SumAlone<TypeParam>(layout, options, exponents, gradients);
    ASSERT_TRUE(first.flags.miss);
    exponents.Raise(first.observed);
    ASSERT_FALSE(SumAlone<TypeParam>(layout, options, exponents, gradients).flags.miss);
  }
}

TYPED_TEST(ExactStep, AnUnknownExponentMissesUnlessTheBlockIsZero) {
  const BlockLayout layout({2, 2});
  const ExactOptions options = this->Options(4);
  BlockExponents exponents(layout.blocks());
  const auto zeros = SumAlone<TypeParam>(layout, options, exponents, {{0.0f, -0.0f, 0.0f, 0.0f}});
  EXPECT_FALSE(zeros.flags.miss);
  EXPECT_EQ(zeros.observed, (std::vector<int16_t>{kUnknownExponent, kUnknownExponent}));
  EXPECT_EQ(zeros.sum, std::vector<TypeParam>(4));
  const auto tiny = SumAlone<TypeParam>(layout, options, exponents, {{0, 0, 0, kSmallestFloat}});
  EXPECT_TRUE(tiny.flags.miss);
  EXPECT_EQ(tiny.observed, (std::vector<int16_t>{kUnknownExponent, kMinExponent}));
  std::vector<float> out(4, 1.0f);
  ToFloat<TypeParam>(layout, options, exponents, zeros.sum, 0.25, out);
  EXPECT_EQ(out, std::vector<float>(4));
}

TYPED_TEST(ExactStep, TheLargestTermsOfAllMicroBatchesCannotOverflow) {
  const BlockLayout layout({2});
  for (const int micro_batches : {1, 2, 3, 5, 1000, 65535, 65536}) {
    const ExactOptions options = this->Options(micro_batches, 0);
    BlockExponents exponents(1);
    exponents.values()[0] = 0;
    // The largest float that still fits, found from the model.
    float largest = 4;
    while (ModelMisses(options, 0, largest)) largest = std::nextafter(largest, 0.0f);
    Share<TypeParam> share(layout);
    Wide expected = 0;
    const std::vector<float> gradient = {largest, -largest};
    for (int m = 0; m < micro_batches; ++m) {
      share.Add(layout, options, exponents, gradient);
      expected += ModelTerm(largest, ModelScale(options, 0));
    }
    EXPECT_FALSE(share.flags.miss);
    EXPECT_TRUE(share.sum[0] == expected && share.sum[1] == -expected) << micro_batches;
    std::vector<float> mean(2);
    ToFloat<TypeParam>(layout, options, exponents, share.sum, 1.0 / micro_batches, mean);
    EXPECT_NEAR(mean[0] / largest, 1,
                std::ldexp(1, CeilLog2(micro_batches) + 2 - options.lane_bits) + 1e-7);
    const auto over =
        SumAlone<TypeParam>(layout, options, exponents, {{std::nextafter(largest, 8.0f), 0}});
    EXPECT_TRUE(over.flags.miss) << micro_batches;
  }
}

TYPED_TEST(ExactStep, AStepThatMissedMayGoOnAndIsThrownAway) {
  const BlockLayout layout({1});
  const ExactOptions options = this->Options(1, 0);
  BlockExponents exponents(1);
  exponents.values()[0] = 0;
  Share<TypeParam> share(layout);
  const std::vector<float> gradient = {1.75f};
  for (int m = 0; m < 5; ++m)
    share.Add(layout, options, exponents, gradient);  // 5 > V: wraps around
  EXPECT_FALSE(share.flags.miss);
}

TEST(BlockExponents, StartUnknownAndTakeTheMaximum) {
  BlockExponents exponents(3);
  EXPECT_EQ(exponents.values()[0], kUnknownExponent);
  exponents.Raise(std::vector<int16_t>{-5, kUnknownExponent, 128});
  exponents.Raise(std::vector<int16_t>{-7, 3, kUnknownExponent});
  EXPECT_EQ(exponents.values()[0], -5);
  EXPECT_EQ(exponents.values()[1], 3);
  EXPECT_EQ(exponents.values()[2], 128);
}

TEST(BlockExponents, LoseOneBitEvery16thStep) {
  BlockExponents exponents(4);
  exponents.Raise(std::vector<int16_t>{10, kUnknownExponent, kMinExponent, 10});
  const std::vector<int16_t> observed = {2, kUnknownExponent, kUnknownExponent, 10};
  for (uint64_t step = 0; step < 48; ++step) {
    exponents.Commit(observed, step);
    EXPECT_EQ(exponents.values()[0], 10 - static_cast<int>((step + 1) / 16)) << step;
    EXPECT_EQ(exponents.values()[1], kUnknownExponent);
    EXPECT_EQ(exponents.values()[2], kMinExponent);
    EXPECT_EQ(exponents.values()[3], 10);
  }
  for (uint64_t step = 48; step < 400; ++step) exponents.Commit(observed, step);
  EXPECT_EQ(exponents.values()[0], 2);
}

}  // namespace
}  // namespace muster
