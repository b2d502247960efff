// The kernels of a step, as programs of blocks on the CPU, against the loops that CPU workers run: the same bits for everything.
// What these tests cannot show, that nvcc and a GPU compute the same, a test on one will have to.
#include "runtime/train/cuda/step_kernels.h"

#include <gmock/gmock.h>

#include <cstring>
#include <limits>
#include <memory>

#include "collectives/exact/exact_test_util.h"
#include "runtime/train/optimizer.h"

namespace muster {
namespace {

using testing::ElementsAreArray;

constexpr int kMicroBatches = 6;
constexpr double kRate = 0.05;

template <typename Arguments>
void RunBlocks(void (*program)(const cuda::Block&, const Arguments&), size_t blocks,
               const Arguments& arguments) {
  for (size_t i = blocks; i-- > 0;) program(cuda::Block(i), arguments);  // in no order that helps
}

std::vector<uint64_t> BeginsOf(const BlockLayout& layout) {
  std::vector<uint64_t> begins;
  for (size_t b = 0; b <= layout.blocks(); ++b) begins.push_back(layout.begin(b));
  return begins;
}

// Bits, so that a NaN is equal to itself and -0 is not 0.
std::vector<uint32_t> BitsOf(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

template <typename Lane>
class StepKernels : public ExactLanes<Lane> {
 protected:
  using Sums = Share<Lane>;

  exact::Scales ScalesOf(const ExactOptions& options, BlockExponents& exponents) const {
    return {begins_.data(), exponents.values().data(), options.TermBits(), options.TermLimit()};
  }

  Sums AccumulateByKernel(const ExactOptions& options, BlockExponents& exponents,
                          const std::vector<float>& gradient) const {
    Sums sums(kLayout);
    uint32_t flags = 0;
    RunBlocks(exact::AccumulateBlock<Lane>, kLayout.blocks(),
              exact::AccumulateArguments<Lane>{ScalesOf(options, exponents), gradient.data(),
                                               sums.sum.data(), sums.observed.data(), &flags});
    sums.flags = {(flags & exact::kMissFlag) != 0, (flags & exact::kNonFiniteFlag) != 0};
    return sums;
  }

  // The kernel does what Accumulate() does.
  void Compare(const ExactOptions& options, BlockExponents& exponents,
               const std::vector<float>& gradient) const {
    Sums expected(kLayout);
    expected.Add(kLayout, options, exponents, gradient);
    const Sums found = AccumulateByKernel(options, exponents, gradient);
    EXPECT_EQ(found.flags.miss, expected.flags.miss);
    EXPECT_EQ(found.flags.non_finite, expected.flags.non_finite);
    EXPECT_THAT(found.observed, ElementsAreArray(expected.observed));
    if (!expected.flags.miss && !expected.flags.non_finite) {
      EXPECT_THAT(found.sum, ElementsAreArray(expected.sum));
    }
  }

  // Sums of a step, and the exponents that it was computed with.
  Sums MakeSums(const ExactOptions& options, BlockExponents& exponents, Source& source,
                Shape shape = Shape::kHeavyTailed) const {
    std::vector<std::vector<float>> gradients;
    for (int i = 0; i < kMicroBatches; ++i) {
      gradients.push_back(source.Gradient(kLayout, shape));
    }
    exponents = this->Learn(kLayout, options, gradients);
    return SumAlone<Lane>(kLayout, options, exponents, gradients);
  }

  const std::vector<uint64_t> begins_ = BeginsOf(kLayout);
};
TYPED_TEST_SUITE(StepKernels, Lanes, LaneNames);

TYPED_TEST(StepKernels, AccumulateLikeTheLoops) {
  Source source(Seed());
  for (const Shape shape : {Shape::kNormal, Shape::kHeavyTailed, Shape::kWholeRange}) {
    for (const int micro_batches : {1, 5, 64}) {
      const ExactOptions options = this->Options(micro_batches);
      for (int i = 0; i < 20; ++i) {
        const auto gradient = source.Gradient(kLayout, shape);
        BlockExponents exponents = this->Learn(kLayout, options, {gradient});
        this->Compare(options, exponents, gradient);
      }
    }
  }
}

TYPED_TEST(StepKernels, AccumulateReportsMissesAndWhatIsNotFinite) {
  Source source(Seed());
  const ExactOptions options = this->Options(kMicroBatches);
  auto gradient = source.Gradient(kLayout, Shape::kNormal);
  BlockExponents unknown(kLayout.blocks());
  this->Compare(options, unknown, gradient);
  BlockExponents exponents = this->Learn(kLayout, options, {gradient});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -1e30F,
                          -std::numeric_limits<float>::infinity(), kLargestFloat, kSmallestFloat}) {
    auto spoiled = gradient;
    spoiled[source.Below(spoiled.size())] = bad;
    this->Compare(options, exponents, spoiled);
  }
  auto both = gradient;  // in one block
  both[1] = std::numeric_limits<float>::infinity();
  both[2] = 1e30F;
  this->Compare(options, exponents, both);
  const std::vector<float> zeros(kLayout.elements());
  this->Compare(options, unknown, zeros);
}

TYPED_TEST(StepKernels, AddUpSquaresInTheOrderOfTheLayout) {
  using Lane = TypeParam;
  Source source(Seed());
  const ExactOptions options = this->Options(kMicroBatches);
  for (int i = 0; i < 20; ++i) {
    BlockExponents exponents(kLayout.blocks());
    const Share<Lane> sums = this->MakeSums(options, exponents, source, Shape::kNormal);
    std::vector<float> mean(kLayout.elements());
    ToFloat<Lane>(kLayout, options, exponents, sums.sum, 1.0 / kMicroBatches, mean);

    std::vector<double> squares(kLayout.blocks());
    RunBlocks(exact::SquaresOfBlock<Lane>, kLayout.blocks(),
              exact::SquaresArguments{
                  {this->ScalesOf(options, exponents), sums.sum.data(), 1.0 / kMicroBatches},
                  squares.data()});
    EXPECT_EQ(std::accumulate(squares.begin(), squares.end(), 0.0), SumOfSquares(kLayout, mean));
  }
}

// Parameters and slots as they lie in a state's image: one after the other, with a gap.
struct Arrays {
  static constexpr size_t kGap = 5;

  Arrays(Source& source, size_t slots) : stride(kLayout.elements() + kGap) {
    for (size_t i = 0; i < (slots + 1) * stride; ++i) {
      values.push_back(std::fabs(source.Value(Shape::kNormal)));
    }
  }
  std::span<float> array(size_t index) {
    return std::span(values).subspan(index * stride, kLayout.elements());
  }

  size_t stride;
  std::vector<float> values;
};

TYPED_TEST(StepKernels, UpdateLikeTheOptimizers) {
  using Lane = TypeParam;
  Source source(Seed());
  const ExactOptions options = this->Options(kMicroBatches);
  for (const auto& optimizer :
       {Sgd({.momentum = 0.9, .weight_decay = 0.01}), Sgd({.nesterov = true}), AdamW()}) {
    for (const double scale : {1.0, 0.3}) {
      for (const uint64_t step : {0, 14, 15}) {
        BlockExponents exponents(kLayout.blocks());
        const Share<Lane> sums = this->MakeSums(options, exponents, source);
        Arrays expected(source, optimizer->Slots().size());
        Arrays found = expected;
        std::vector<int16_t> observed(sums.observed);
        for (int16_t& exponent : observed) exponent -= static_cast<int16_t>(source.Below(3));

        // Loops.
        std::vector<float> gradient(kLayout.elements());
        ToFloat<Lane>(kLayout, options, exponents, sums.sum, 1.0 / kMicroBatches, gradient);
        if (scale != 1) {
          for (float& value : gradient) value = static_cast<float>(value * scale);
        }
        std::vector<std::span<float>> slots;
        for (size_t i = 0; i < optimizer->Slots().size(); ++i) {
          slots.push_back(expected.array(i + 1));
        }
        const UpdateContext context{step, kRate};
        optimizer->Update(context, expected.array(0), gradient, slots);
        BlockExponents expected_exponents = exponents;
        expected_exponents.Commit(observed, step);

        // Kernels, in two parts.
        std::visit(
            [&]<typename Rule>(const Rule& rule) {
              UpdateArguments<Rule> arguments;
              arguments.mean = {this->ScalesOf(options, exponents), sums.sum.data(),
                                1.0 / kMicroBatches};
              arguments.rule = rule;
              arguments.scale = scale;
              arguments.observed = observed.data();
              arguments.decays = BlockExponents::DecaysAfter(step);
              arguments.places = this->begins_.data();
              arguments.parameters = found.values.data();
              arguments.slot_stride = found.stride;
              const size_t half = kLayout.blocks() / 2;
              RunBlocks(UpdateBlock<Lane, Rule>, half, arguments);
              arguments.first = half;
              RunBlocks(UpdateBlock<Lane, Rule>, kLayout.blocks() - half, arguments);
            },
            *optimizer->Rule(context));
        EXPECT_EQ(BitsOf(found.values), BitsOf(expected.values)) << optimizer->Describe();
        EXPECT_THAT(exponents.values(), ElementsAreArray(expected_exponents.values()));
      }
    }
  }
}

TEST(StepKernels, RaiseExponentsAfterAMiss) {
  BlockExponents expected(1000);
  Source source(Seed());
  for (int16_t& exponent : expected.values()) exponent = static_cast<int16_t>(source.Below(60));
  std::vector<int16_t> found(expected.values().begin(), expected.values().end());
  std::vector<int16_t> observed(found.size());
  for (int16_t& exponent : observed) exponent = static_cast<int16_t>(source.Below(60));
  observed[7] = kUnknownExponent;
  expected.Raise(observed);
  RunBlocks(RaiseExponents, found.size() / cuda::Block::kThreads + 1,
            RaiseArguments{found.data(), observed.data(), found.size()});
  EXPECT_THAT(found, ElementsAreArray(expected.values()));
}

TEST(StepKernels, SumFloatsAndFindWhatIsNotFinite) {
  Source source(Seed());
  const std::vector<uint64_t> begins = BeginsOf(kLayout);
  const auto gradient = source.Gradient(kLayout, Shape::kNormal);
  auto sum = source.Gradient(kLayout, Shape::kNormal);
  std::vector<float> expected = sum;
  for (size_t i = 0; i < sum.size(); ++i) expected[i] += gradient[i];
  uint32_t flags = 0;
  const FloatSumArguments arguments{begins.data(), gradient.data(), sum.data(), &flags};
  RunBlocks(AddFloatsOfBlock, kLayout.blocks(), arguments);
  RunBlocks(CheckFloatsOfBlock, kLayout.blocks(), arguments);
  EXPECT_EQ(BitsOf(sum), BitsOf(expected));
  EXPECT_EQ(flags, 0U);
  sum[source.Below(sum.size())] = std::numeric_limits<float>::infinity();
  RunBlocks(CheckFloatsOfBlock, kLayout.blocks(), arguments);
  EXPECT_EQ(flags, exact::kNonFiniteFlag);
}

}  // namespace
}  // namespace muster
