#include "runtime/train/optimizer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/train/random.h"

namespace muster {
namespace {

using Floats = std::vector<float>;

// Applies `updates` gradients drawn from one stream to a parameter of `size` elements, in pieces of `piece` elements.
// Returns parameter and slots.
std::vector<Floats> Updated(const Optimizer& optimizer, size_t size, size_t piece, int updates) {
  Random random(1);
  std::vector<Floats> state(1 + optimizer.Slots().size(), Floats(size));
  for (float& p : state[0]) p = random.Normal();
  for (int step = 0; step < updates; ++step) {
    Floats gradient(size);
    for (float& g : gradient) g = random.Normal();
    const UpdateContext context{.step = static_cast<uint64_t>(step), .learning_rate = 0.05};
    for (size_t begin = 0; begin < size; begin += piece) {
      const size_t count = std::min(piece, size - begin);
      std::vector<std::span<float>> slots;
      for (size_t i = 1; i < state.size(); ++i) {
        slots.push_back(std::span(state[i]).subspan(begin, count));
      }
      optimizer.Update(context, std::span(state[0]).subspan(begin, count),
                       std::span(gradient).subspan(begin, count), slots);
    }
  }
  return state;
}

std::vector<std::unique_ptr<Optimizer>> AllOptimizers() {
  std::vector<std::unique_ptr<Optimizer>> all;
  all.push_back(Sgd({.momentum = 0.9, .weight_decay = 0.01}));
  all.push_back(Sgd({.momentum = 0.9, .weight_decay = 0.01, .nesterov = true}));
  all.push_back(AdamW());
  return all;
}

void ExpectSameBits(const std::vector<Floats>& left, const std::vector<Floats>& right) {
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    for (size_t j = 0; j < left[i].size(); ++j) {
      ASSERT_EQ(std::bit_cast<uint32_t>(left[i][j]), std::bit_cast<uint32_t>(right[i][j]))
          << "array " << i << " element " << j;
    }
  }
}

// Pieces of 1 run in the scalar remainder of the loops, pieces of 1,021 mostly in vectors.
TEST(Optimizer, GivesTheSameBitsInPiecesOfAnySize) {
  for (const auto& optimizer : AllOptimizers()) {
    const auto whole = Updated(*optimizer, 1021, 1021, 5);
    for (size_t piece : {1, 2, 3, 7, 8, 31, 64, 1000}) {
      SCOPED_TRACE(optimizer->Describe() + " in pieces of " + std::to_string(piece));
      ExpectSameBits(whole, Updated(*optimizer, 1021, piece, 5));
    }
  }
}

// One element, by the formulas, in double.
TEST(Sgd, FollowsItsFormula) {
  for (bool nesterov : {false, true}) {
    const auto optimizer = Sgd({.momentum = 0.5, .weight_decay = 0.25, .nesterov = nesterov});
    Floats p = {2};
    Floats m = {1};
    const Floats g = {3};
    const std::vector<std::span<float>> slots = {m};
    optimizer->Update({.step = 9, .learning_rate = 0.125}, p, g, slots);
    EXPECT_EQ(m[0], 0.5f * 1 + 3 + 0.25f * 2);  // 4
    EXPECT_EQ(p[0], nesterov ? 2 - 0.125f * (3.5f + 0.5f * 4) : 2 - 0.125f * 4);
  }
}

TEST(AdamW, FollowsItsFormula) {
  const AdamWOptions o{.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-6, .weight_decay = 0.1};
  const auto optimizer = AdamW(o);
  Floats p = {2};
  Floats m = {0};
  Floats v = {0};
  const std::vector<std::span<float>> slots = {m, v};
  double expected_p = 2, expected_m = 0, expected_v = 0;
  for (uint64_t step = 0; step < 50; ++step) {
    const double gradient = std::sin(static_cast<double>(step));
    const Floats g = {static_cast<float>(gradient)};
    optimizer->Update({.step = step, .learning_rate = 0.01}, p, g, slots);
    expected_m = o.beta1 * expected_m + (1 - o.beta1) * gradient;
    expected_v = o.beta2 * expected_v + (1 - o.beta2) * gradient * gradient;
    const double mean = expected_m / (1 - std::pow(o.beta1, step + 1));
    const double variance = expected_v / (1 - std::pow(o.beta2, step + 1));
    expected_p -= 0.01 * (mean / (std::sqrt(variance) + o.epsilon) + o.weight_decay * expected_p);
    ASSERT_NEAR(p[0], expected_p, 2e-6) << "step " << step;
    ASSERT_NEAR(m[0], expected_m, 1e-6);
    ASSERT_NEAR(v[0], expected_v, 1e-6);
  }
}

// At step 0 the corrected mean is g and the corrected variance g x g: the step has the length of the rate.
TEST(AdamW, CorrectsTheBiasOfTheFirstStep) {
  const auto optimizer = AdamW({.weight_decay = 0});
  Floats p = {1};
  Floats m = {0};
  Floats v = {0};
  const Floats g = {1e-3f};
  const std::vector<std::span<float>> slots = {m, v};
  optimizer->Update({.step = 0, .learning_rate = 0.5}, p, g, slots);
  EXPECT_NEAR(p[0], 0.5, 1e-4);
}

TEST(AdamW, LeavesAParameterAloneThatHasNoGradientAndNoDecay) {
  const auto optimizer = AdamW({.weight_decay = 0});
  Floats p = {3};
  Floats m = {0};
  Floats v = {0};
  const Floats g = {0};
  const std::vector<std::span<float>> slots = {m, v};
  optimizer->Update({.step = 0, .learning_rate = 0.5}, p, g, slots);
  EXPECT_EQ(p[0], 3.0f);
}

TEST(Optimizer, DescribesItselfWithEveryHyperParameter) {
  EXPECT_EQ(Sgd()->Describe(), "sgd momentum=0.9 weight_decay=0 nesterov=false");
  EXPECT_EQ(AdamW()->Describe(), "adamw beta1=0.9 beta2=0.999 epsilon=1e-08 weight_decay=0.01");
}

TEST(OptimizerDeathTest, RefusesSpansOfDifferentLengths) {
  const auto optimizer = Sgd();
  Floats p = {1, 2};
  Floats short_slot = {0};
  const Floats g = {1, 2};
  const std::vector<std::span<float>> slots = {short_slot};
  EXPECT_DEATH(optimizer->Update({}, p, g, slots), "a slot of 1 for 2 elements");
  EXPECT_DEATH(optimizer->Update({}, p, g, {}), "0 slots, expected 1");
}

TEST(OptimizerDeathTest, RefusesHyperParametersOutOfRange) {
  EXPECT_DEATH(Sgd({.momentum = 1}), "momentum=1");
  EXPECT_DEATH(AdamW({.beta2 = std::nan("")}), "beta2=nan");
}

TEST(Schedule, ConstantStaysConstant) {
  EXPECT_EQ(ConstantRate(0.25)(0), 0.25);
  EXPECT_EQ(ConstantRate(0.25)(1'000'000), 0.25);
}

TEST(Schedule, WarmupRisesInAStraightLine) {
  const Schedule rate = WarmupRate(0.5, 100);
  EXPECT_EQ(rate(0), 0.0);
  EXPECT_EQ(rate(50), 0.25);
  EXPECT_EQ(rate(100), 0.5);
  EXPECT_EQ(rate(5000), 0.5);
  EXPECT_EQ(WarmupRate(0.5, 0)(0), 0.5);
}

TEST(Schedule, CosineFallsFromTheRateToTheFinalRate) {
  const Schedule rate = CosineRate(1.0, 10, 110, 0.2);
  EXPECT_EQ(rate(0), 0.0);
  EXPECT_EQ(rate(5), 0.5);
  EXPECT_EQ(rate(10), 1.0);
  EXPECT_NEAR(rate(60), 0.6, 1e-12);
  EXPECT_NEAR(rate(35), 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)), 1e-12);
  EXPECT_EQ(rate(110), 0.2);
  EXPECT_EQ(rate(1000), 0.2);
}

TEST(Schedule, CosineIsDefinedWhenTrainingEndsWithinTheWarmup) {
  const Schedule rate = CosineRate(1.0, 10, 4, 0.2);
  EXPECT_EQ(rate(3), 0.3);
  EXPECT_EQ(rate(4), 0.2);
}

TEST(Schedule, StepDecayMultipliesAtEveryStair) {
  const Schedule rate = StepDecayRate(1.0, 10, 0.5);
  EXPECT_EQ(rate(9), 1.0);
  EXPECT_EQ(rate(10), 0.5);
  EXPECT_EQ(rate(39), 0.125);
}

}  // namespace
}  // namespace muster
