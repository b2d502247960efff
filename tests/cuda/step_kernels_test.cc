// The kernels of a step against the loops that CPU workers run: the same bits for everything. On a machine with a GPU that one runs them;
// elsewhere the stand-in for its driver does, on the CPU (MUSTER_LIBCUDA).
#include "runtime/train/cuda/step_kernels.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

#include "collectives/exact/exact_test_util.h"
#include "runtime/cuda/testing/test_gpu.h"
#include "runtime/train/cuda/step_image.h"
#include "runtime/train/optimizer.h"

namespace muster {
namespace {

using testing::ElementsAreArray;

constexpr int kMicroBatches = 6;
constexpr double kRate = 0.05;

// Skips the test where there is no device.
template <typename Fixture>
class OnDevice : public Fixture {
 protected:
  void SetUp() override {
    Fixture::SetUp();
    auto device = cuda::Device::Open(0);
    if (!device && std::getenv("MUSTER_NEED_GPU") != nullptr) FAIL() << device.error().ToString();
    if (!device) GTEST_SKIP() << device.error().ToString();
    gpu_.emplace(std::move(*device));
  }
  void TearDown() override { gpu_.reset(); }

  std::optional<TestGpu> gpu_;
};

template <typename Lane>
std::string KernelOf(const std::string& work) {
  return work + (sizeof(Lane) == 4 ? "_int32" : "_int64");
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
class StepKernels : public OnDevice<ExactLanes<Lane>> {
 protected:
  using Sums = Share<Lane>;

  exact::Scales ScalesOf(const ExactOptions& options, const BlockExponents& exponents) {
    const auto values = exponents.values();
    return {this->gpu_->Copy(begins_),
            this->gpu_->Copy(std::vector<int16_t>(values.begin(), values.end())),
            options.TermBits(), options.TermLimit()};
  }

  Sums AccumulateByKernel(const ExactOptions& options, const BlockExponents& exponents,
                          const std::vector<float>& gradient) {
    Sums sums(kLayout);
    const exact::AccumulateArguments<Lane> arguments{
        ScalesOf(options, exponents), this->gpu_->Copy(gradient), this->gpu_->Copy(sums.sum),
        this->gpu_->Copy(sums.observed), this->gpu_->Copy(std::vector<uint32_t>{0})};
    this->gpu_->Run(kStepKernels, KernelOf<Lane>("accumulate"), kLayout.blocks(), arguments);
    sums.sum = this->gpu_->Back(arguments.sum, sums.sum.size());
    sums.observed = this->gpu_->Back(arguments.observed, sums.observed.size());
    const uint32_t flags = this->gpu_->Back(arguments.flags, 1).front();
    sums.flags = {(flags & exact::kMissFlag) != 0, (flags & exact::kNonFiniteFlag) != 0};
    return sums;
  }

  // The kernel does what Accumulate() does.
  void Compare(const ExactOptions& options, const BlockExponents& exponents,
               const std::vector<float>& gradient) {
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
                Shape shape = Shape::kHeavyTailed) {
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

    const exact::SquaresArguments arguments{
        {this->ScalesOf(options, exponents), this->gpu_->Copy(sums.sum), 1.0 / kMicroBatches},
        this->gpu_->Copy(std::vector<double>(kLayout.blocks())),
        kLayout.blocks()};
    this->gpu_->Run(kStepKernels, KernelOf<Lane>("squares"), arguments.blocks_of_threads(),
                    arguments);
    const auto squares = this->gpu_->Back(arguments.squares, kLayout.blocks());
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
        const exact::Scales scales = this->ScalesOf(options, exponents);
        float* parameters = this->gpu_->Copy(found.values);
        std::visit(
            [&]<typename Rule>(const Rule& rule) {
              UpdateArguments<Rule> arguments;
              arguments.mean = {scales, this->gpu_->Copy(sums.sum), 1.0 / kMicroBatches};
              arguments.rule = rule;
              arguments.scale = scale;
              arguments.observed = this->gpu_->Copy(observed);
              arguments.decays = BlockExponents::DecaysAfter(step);
              arguments.places = scales.begins;
              arguments.parameters = parameters;
              arguments.slot_stride = found.stride;
              const std::string kernel =
                  KernelOf<Lane>(std::is_same_v<Rule, SgdRule> ? "sgd" : "adamw");
              const size_t half = kLayout.blocks() / 2;
              this->gpu_->Run(kStepKernels, kernel, half, arguments);
              arguments.first = half;
              this->gpu_->Run(kStepKernels, kernel, kLayout.blocks() - half, arguments);
            },
            *optimizer->Rule(context));
        found.values = this->gpu_->Back(parameters, found.values.size());
        const auto exponents_found = this->gpu_->Back(scales.exponents, kLayout.blocks());
        EXPECT_EQ(BitsOf(found.values), BitsOf(expected.values)) << optimizer->Describe();
        EXPECT_THAT(exponents_found, ElementsAreArray(expected_exponents.values()));
      }
    }
  }
}

using ExponentKernels = OnDevice<testing::Test>;

TEST_F(ExponentKernels, RaiseThemAfterAMiss) {
  BlockExponents expected(1000);
  Source source(Seed());
  for (int16_t& exponent : expected.values()) exponent = static_cast<int16_t>(source.Below(60));
  const std::vector<int16_t> before(expected.values().begin(), expected.values().end());
  std::vector<int16_t> observed(before.size());
  for (int16_t& exponent : observed) exponent = static_cast<int16_t>(source.Below(60));
  observed[7] = kUnknownExponent;
  expected.Raise(observed);
  const RaiseArguments arguments{gpu_->Copy(before), gpu_->Copy(observed), before.size()};
  gpu_->Run(kStepKernels, "raise_exponents", before.size() / cuda::Block::kThreads + 1, arguments);
  EXPECT_THAT(gpu_->Back(arguments.exponents, before.size()), ElementsAreArray(expected.values()));
}

using FloatKernels = OnDevice<testing::Test>;

TEST_F(FloatKernels, AddAndFindWhatIsNotFinite) {
  Source source(Seed());
  const auto gradient = source.Gradient(kLayout, Shape::kNormal);
  auto sum = source.Gradient(kLayout, Shape::kNormal);
  FloatSumArguments arguments{gpu_->Copy(BeginsOf(kLayout)), gpu_->Copy(gradient), gpu_->Copy(sum),
                              gpu_->Copy(std::vector<uint32_t>{0})};
  gpu_->Run(kStepKernels, "add_floats", kLayout.blocks(), arguments);
  gpu_->Run(kStepKernels, "check_floats", kLayout.blocks(), arguments);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += gradient[i];
  EXPECT_EQ(BitsOf(gpu_->Back(arguments.sum, sum.size())), BitsOf(sum));
  EXPECT_EQ(gpu_->Back(arguments.flags, 1).front(), 0U);
  sum[source.Below(sum.size())] = std::numeric_limits<float>::infinity();
  arguments.sum = gpu_->Copy(sum);
  gpu_->Run(kStepKernels, "check_floats", kLayout.blocks(), arguments);
  EXPECT_EQ(gpu_->Back(arguments.flags, 1).front(), exact::kNonFiniteFlag);
}

}  // namespace
}  // namespace muster
