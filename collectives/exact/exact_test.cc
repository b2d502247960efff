// Exact reduction, value by value: terms, bounds, extreme magnitudes, conversion back, norms. What a step does with them:
// exact_step_test.cc.
#include "collectives/exact/exact_test_util.h"

namespace muster {
namespace {

template <typename Lane>
class ExactValues : public ExactLanes<Lane> {};
TYPED_TEST_SUITE(ExactValues, Lanes, LaneNames);

TEST(BlockLayout, StartsABlockAtEveryParameter) {
  const BlockLayout layout({1, 1024, 1500, 0, 3});
  EXPECT_EQ(layout.elements(), 2528u);
  ASSERT_EQ(layout.blocks(), 5u);
  const std::vector<size_t> begins = {0, 1, 1025, 2049, 2525, 2528};
  for (size_t b = 0; b < begins.size(); ++b) EXPECT_EQ(layout.begin(b), begins[b]) << b;
}

TEST(BlockLayout, MayBeEmpty) {
  const BlockLayout layout({});
  EXPECT_EQ(layout.blocks(), 0u);
  EXPECT_EQ(layout.elements(), 0u);
  EXPECT_EQ(SumOfSquares(layout, {}), 0);
}

TEST(ExactOptions, NameTheOptionThatIsOutOfRange) {
  EXPECT_TRUE(ExactOptions{}.Validate());
  EXPECT_TRUE((ExactOptions{65536, 64, 20}).Validate());
  EXPECT_TRUE((ExactOptions{65536, 32, 4}).Validate());
  EXPECT_NE((ExactOptions{0, 64, 4}).Validate().error().message.find("micro_batches is 0"),
            std::string::npos);
  EXPECT_NE((ExactOptions{65537, 64, 4}).Validate().error().message.find("65536"),
            std::string::npos);
  EXPECT_NE((ExactOptions{16, 16, 4}).Validate().error().message.find("lane_bits is 16"),
            std::string::npos);
  EXPECT_NE((ExactOptions{16, 32, 21}).Validate().error().message.find("headroom_bits is 21"),
            std::string::npos);
  EXPECT_NE((ExactOptions{65536, 32, 7}).Validate().error().message.find("leave 7 of 32 bits"),
            std::string::npos);
}

TEST(ExactOptions, SmallModelsGetWideLanes) {
  EXPECT_EQ(DefaultLaneBits(0), 64);
  EXPECT_EQ(DefaultLaneBits((1 << 20) - 1), 64);
  EXPECT_EQ(DefaultLaneBits(1 << 20), 32);
}

TYPED_TEST(ExactValues, EveryTermIsTheNearestIntegerOfTheModel) {
  Source source(Seed());
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const ExactOptions options = this->Options(1 << source.Below(10), source.Below(10));
    const Shape shape = static_cast<Shape>(source.Below(3));
    const std::vector<float> gradient = source.Gradient(kLayout, shape);
    const BlockExponents exponents = this->Learn(kLayout, options, {gradient});
    const auto share = SumAlone<TypeParam>(kLayout, options, exponents, {gradient});
    ASSERT_FALSE(share.flags.miss);
    for (size_t b = 0; b < kLayout.blocks(); ++b) {
      for (size_t i = kLayout.begin(b); i < kLayout.begin(b + 1); ++i) {
        const int exponent = exponents.values()[b];
        const Wide expected = exponent == kUnknownExponent
                                  ? 0
                                  : ModelTerm(gradient[i], ModelScale(options, exponent));
        ASSERT_EQ(share.sum[i], static_cast<TypeParam>(expected))
            << gradient[i] << " in block " << b;
      }
    }
  }
}

TYPED_TEST(ExactValues, TiesGoToTheEvenInteger) {
  const BlockLayout layout({7});
  const ExactOptions options = this->Options(1, 0);
  // With this exponent p is 0: the gradient is its own integer.
  BlockExponents exponents(1);
  exponents.values()[0] = static_cast<int16_t>(options.lane_bits - 2);
  const auto share = SumAlone<TypeParam>(layout, options, exponents,
                                         {{0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 8388607.5f, -0.0f}});
  EXPECT_EQ(share.sum, (std::vector<TypeParam>{0, 2, 2, 0, -2, 8388608, 0}));
}

TYPED_TEST(ExactValues, TheMeanKeepsTheDocumentedBoundInEveryBlock) {
  Source source(Seed());
  for (int round = 0; round < 15; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << Seed() << " round " << round);
    const int micro_batches = 1 + static_cast<int>(source.Below(20));
    const ExactOptions options = this->Options(micro_batches, source.Below(9));
    const Shape shape = static_cast<Shape>(source.Below(2));
    std::vector<std::vector<float>> gradients;
    for (int m = 0; m < micro_batches; ++m) gradients.push_back(source.Gradient(kLayout, shape));
    const BlockExponents exponents = this->Learn(kLayout, options, gradients);
    const auto share = SumAlone<TypeParam>(kLayout, options, exponents, gradients);
    std::vector<float> mean(kLayout.elements());
    ToFloat<TypeParam>(kLayout, options, exponents, share.sum, 1.0 / micro_batches, mean);
    for (size_t b = 0; b < kLayout.blocks(); ++b) {
      const double bound = std::ldexp(1.0, CeilLog2(micro_batches) + options.headroom_bits -
                                               (options.lane_bits - 1) + exponents.values()[b]);
      float largest = 0;
      for (size_t i = kLayout.begin(b); i < kLayout.begin(b + 1); ++i) {
        long double expected = 0;
        for (const auto& gradient : gradients) {
          expected += gradient[i];
          largest = std::max(largest, std::fabs(gradient[i]));
        }
        expected /= micro_batches;
        const double rounding = std::fabs(mean[i]) * 0x1.01p-24;
        ASSERT_LE(std::fabs(static_cast<double>(mean[i] - expected)), bound + rounding) << i;
      }
      ASSERT_LE(std::ldexp(1.0, exponents.values()[b]), 2.0 * largest);
      ASSERT_GT(std::ldexp(1.0, exponents.values()[b]), largest);
    }
  }
}

TYPED_TEST(ExactValues, WideLanesRoundOnlyOnceWhenTheTermsAreExact) {
  const BlockLayout layout({2});
  const ExactOptions options = this->Options(2);
  const std::vector<std::vector<float>> gradients = {{3.0f, -1.0f}, {5.0f, 0.5f}};
  const BlockExponents exponents = this->Learn(layout, options, gradients);
  const auto share = SumAlone<TypeParam>(layout, options, exponents, gradients);
  std::vector<float> mean(2);
  ToFloat<TypeParam>(layout, options, exponents, share.sum, 0.5, mean);
  EXPECT_EQ(mean, (std::vector<float>{4.0f, -0.25f}));
}

TYPED_TEST(ExactValues, NonFiniteValuesRaiseTheFlagAndNoExponent) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::nanf("1"), -std::nanf("77")}) {
    const BlockLayout layout({3, 3});
    const ExactOptions options = this->Options(4);
    BlockExponents exponents(layout.blocks());
    exponents.Raise(std::vector<int16_t>{2, 2});
    const auto share = SumAlone<TypeParam>(layout, options, exponents, {{1, bad, 3, 0, bad, 0}});
    EXPECT_TRUE(share.flags.non_finite) << bad;
    EXPECT_FALSE(share.flags.miss) << bad;
    EXPECT_EQ(share.observed, (std::vector<int16_t>{2, kUnknownExponent})) << bad;
    // A finite value that does not fit is a miss all the same.
    const auto both = SumAlone<TypeParam>(layout, options, exponents, {{bad, 1e9f, 0, 0, 0, 0}});
    EXPECT_TRUE(both.flags.non_finite && both.flags.miss);
  }
}

TYPED_TEST(ExactValues, OneTensorMayHoldDenormalsAndTheLargestFloats) {
  const BlockLayout layout({4, 4, 4});
  const ExactOptions options = this->Options(2);
  const std::vector<std::vector<float>> gradients = {
      {kSmallestFloat, 3 * kSmallestFloat, 0x1p-130f, -kSmallestFloat,  //
       kLargestFloat, -kLargestFloat, 1, kSmallestFloat,                //
       1, 0.5f, 0x1p-10f, -1},
      {kSmallestFloat, kSmallestFloat, 0x1p-130f, -kSmallestFloat,  //
       kLargestFloat, -kLargestFloat, 1, kSmallestFloat,            //
       1, 0.5f, 0x1p-10f, -1}};
  const BlockExponents exponents = this->Learn(layout, options, gradients);
  EXPECT_EQ(exponents.values()[0], -129);
  EXPECT_EQ(exponents.values()[1], 128);
  EXPECT_EQ(exponents.values()[2], 1);
  const auto share = SumAlone<TypeParam>(layout, options, exponents, gradients);
  ASSERT_FALSE(share.flags.miss || share.flags.non_finite);
  std::vector<float> mean(12);
  ToFloat<TypeParam>(layout, options, exponents, share.sum, 0.5, mean);
  EXPECT_EQ(mean, (std::vector<float>{kSmallestFloat, 2 * kSmallestFloat, 0x1p-130f,
                                      -kSmallestFloat, kLargestFloat, -kLargestFloat, 0, 0,  //
                                      1, 0.5f, 0x1p-10f, -1}));
}

TYPED_TEST(ExactValues, AnyExponentOfAnInt16IsSafe) {
  Source source(Seed());
  const BlockLayout layout({8});
  const std::vector<float> gradient = {kSmallestFloat, kLargestFloat, 1, -1, 0,
                                       -kLargestFloat, 1e-40f,        7};
  for (const int16_t exponent : {-32767, -1000, -149, -148, 0, 127, 128, 129, 1000, 32767}) {
    BlockExponents exponents(1);
    exponents.values()[0] = exponent;
    for (const int headroom : {0, 4}) {
      const ExactOptions options = this->Options(65536, headroom);
      auto share = SumAlone<TypeParam>(layout, options, exponents, {gradient});
      const int clamped = std::clamp<int>(exponent, kMinExponent, kMaxExponent);
      EXPECT_EQ(share.flags.miss, ModelMisses(options, clamped, kLargestFloat)) << exponent;
      std::vector<float> out(8);
      ToFloat<TypeParam>(layout, options, exponents, share.sum, 1, out);
      for (const float value : out) EXPECT_TRUE(std::isfinite(value));
    }
  }
}

TYPED_TEST(ExactValues, TheMeanOfTheLargestFloatsStaysFinite) {
  const BlockLayout layout({1});
  const ExactOptions options = this->Options(3);
  const std::vector<std::vector<float>> gradients(3, {-kLargestFloat});
  const BlockExponents exponents = this->Learn(layout, options, gradients);
  const auto share = SumAlone<TypeParam>(layout, options, exponents, gradients);
  std::vector<float> mean(1);
  ToFloat<TypeParam>(layout, options, exponents, share.sum, 1.0 / 3, mean);
  EXPECT_EQ(mean[0], -kLargestFloat);
}

TYPED_TEST(ExactValues, SumsOfAnySizeBecomeTheNearestFloat) {
  Source source(Seed());
  const BlockLayout layout({1024});
  const ExactOptions options = this->Options(1, 0);
  BlockExponents exponents(1);
  exponents.values()[0] = static_cast<int16_t>(options.lane_bits - 2);  // p = 0
  std::vector<TypeParam> sum(1024);
  for (TypeParam& value : sum) {
    value = static_cast<TypeParam>(source.generator()()) >> source.Below(options.lane_bits - 1);
  }
  sum[0] = std::numeric_limits<TypeParam>::max();
  sum[1] = std::numeric_limits<TypeParam>::min();
  std::vector<float> out(1024);
  ToFloat<TypeParam>(layout, options, exponents, sum, 1, out);
  for (size_t i = 0; i < sum.size(); ++i) {
    ASSERT_EQ(out[i], static_cast<float>(static_cast<double>(sum[i]))) << sum[i];
  }
}

TEST(SumOfSquares, IsTheSumInItsDocumentedOrder) {
  Source source(Seed());
  const BlockLayout layout({1, 1024, 1500, 13});
  const std::vector<float> values = source.Gradient(layout, Shape::kHeavyTailed);
  double expected = 0;
  for (size_t b = 0; b < layout.blocks(); ++b) {
    double partial[8] = {};
    for (size_t i = layout.begin(b); i < layout.begin(b + 1); ++i) {
      partial[(i - layout.begin(b)) % 8] += static_cast<double>(values[i]) * values[i];
    }
    expected += ((partial[0] + partial[1]) + (partial[2] + partial[3])) +
                ((partial[4] + partial[5]) + (partial[6] + partial[7]));
  }
  EXPECT_EQ(SumOfSquares(layout, values), expected) << "seed " << Seed();
}

TEST(SumOfSquares, DoesNotOverflowAFloat) {
  const BlockLayout layout({2});
  EXPECT_EQ(SumOfSquares(layout, std::vector<float>{0x1p127f, 0x1p127f}), 0x1p255);
}

}  // namespace
}  // namespace muster
