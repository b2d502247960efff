#include "models/digits/mlp.h"

#include <cblas.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "runtime/train/random.h"

namespace muster {
namespace {

using Arrays = std::vector<std::vector<float>>;

constexpr Mlp::Shape kSmall{.inputs = 5, .hidden = 7, .classes = 3};
constexpr Mlp::Shape kDigits{.inputs = 64, .hidden = 128, .classes = 10};

// Random features, labels in turn.
MemoryDataset MakeData(const Mlp::Shape& shape, int64_t size, uint64_t seed) {
  Random random(seed);
  std::vector<float> features(size * shape.inputs);
  for (float& feature : features) feature = random.Uniform();
  std::vector<int32_t> labels(size);
  for (int64_t i = 0; i < size; ++i) labels[i] = static_cast<int32_t>(i % shape.classes);
  return MemoryDataset(std::move(features), shape.inputs, std::move(labels), 1);
}

Arrays Zeros(const Mlp& model) {
  Arrays arrays;
  for (const Parameter& parameter : model.Parameters()) arrays.emplace_back(parameter.size());
  return arrays;
}

Arrays Initial(Mlp& model) {
  Arrays arrays = Zeros(model);
  const std::vector<std::span<float>> tensors(arrays.begin(), arrays.end());
  Random random(3);
  model.Initialize(tensors, random);
  // Biases that are not zero, so that their part in the forward pass is seen.
  for (float& bias : arrays[1]) bias = random.Uniform(-0.1f, 0.1f);
  for (float& bias : arrays[3]) bias = random.Uniform(-0.1f, 0.1f);
  return arrays;
}

struct Outcome {
  double loss = 0;
  Arrays gradients;
};

Outcome Compute(Mlp& model, const Arrays& parameters, const Batch& data, uint64_t seed = 0) {
  Outcome outcome{.gradients = Zeros(model)};
  const std::vector<std::span<const float>> inputs(parameters.begin(), parameters.end());
  const std::vector<std::span<float>> outputs(outcome.gradients.begin(), outcome.gradients.end());
  outcome.loss = model.TrainMicroBatch({.data = &data, .random = Random(seed)}, inputs, outputs);
  return outcome;
}

Batch ReadRows(const MemoryDataset& data, int64_t begin, int64_t count) {
  std::vector<int64_t> rows(count);
  for (int64_t i = 0; i < count; ++i) rows[i] = begin + i;
  Batch batch;
  EXPECT_TRUE(data.Read(rows, batch).has_value());
  return batch;
}

// The same network written as plainly as can be, in double.
double ReferenceLoss(const Mlp::Shape& shape, const std::vector<std::vector<double>>& p,
                     const Batch& data) {
  double loss = 0;
  for (int64_t i = 0; i < data.size; ++i) {
    std::vector<double> logits(p[3]);
    for (int64_t h = 0; h < shape.hidden; ++h) {
      double value = p[1][h];
      for (int64_t x = 0; x < shape.inputs; ++x) {
        value += data.features[i * shape.inputs + x] * p[0][x * shape.hidden + h];
      }
      for (int64_t c = 0; c < shape.classes; ++c) {
        logits[c] += std::max(value, 0.0) * p[2][h * shape.classes + c];
      }
    }
    double sum = 0;
    for (double logit : logits) sum += std::exp(logit);
    loss += (std::log(sum) - logits[data.labels[i]]) / static_cast<double>(data.size);
  }
  return loss;
}

std::vector<std::vector<double>> ToDouble(const Arrays& arrays) {
  std::vector<std::vector<double>> wide;
  for (const auto& array : arrays) wide.emplace_back(array.begin(), array.end());
  return wide;
}

void ExpectSameBits(const Outcome& left, const Outcome& right) {
  EXPECT_EQ(std::bit_cast<uint64_t>(left.loss), std::bit_cast<uint64_t>(right.loss));
  for (size_t i = 0; i < left.gradients.size(); ++i) {
    for (size_t j = 0; j < left.gradients[i].size(); ++j) {
      ASSERT_EQ(std::bit_cast<uint32_t>(left.gradients[i][j]),
                std::bit_cast<uint32_t>(right.gradients[i][j]))
          << "array " << i << " element " << j;
    }
  }
}

class MlpTest : public testing::Test {
 protected:
  void SetUp() override { openblas_set_num_threads(1); }
};

TEST_F(MlpTest, HasTheLossOfThePlainNetwork) {
  const MemoryDataset data = MakeData(kDigits, 16, 1);
  Mlp model(kDigits, 0, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 16);
  EXPECT_NEAR(Compute(model, parameters, batch).loss,
              ReferenceLoss(kDigits, ToDouble(parameters), batch), 1e-6);
}

TEST_F(MlpTest, HasTheGradientOfFiniteDifferences) {
  const MemoryDataset data = MakeData(kSmall, 6, 2);
  Mlp model(kSmall, 0, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 6);
  const Outcome outcome = Compute(model, parameters, batch);
  auto moved = ToDouble(parameters);
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < moved.size(); ++i) {
    for (size_t j = 0; j < moved[i].size(); ++j) {
      const double middle = moved[i][j];
      moved[i][j] = middle + kStep;
      const double above = ReferenceLoss(kSmall, moved, batch);
      moved[i][j] = middle - kStep;
      const double below = ReferenceLoss(kSmall, moved, batch);
      moved[i][j] = middle;
      EXPECT_NEAR(outcome.gradients[i][j], (above - below) / (2 * kStep), 1e-6)
          << "array " << i << " element " << j;
    }
  }
}

TEST_F(MlpTest, AddsToTheGradientsItFinds) {
  const MemoryDataset data = MakeData(kSmall, 6, 2);
  Mlp model(kSmall, 0, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 6);
  const Outcome once = Compute(model, parameters, batch);
  Arrays gradients = Zeros(model);
  const std::vector<std::span<const float>> inputs(parameters.begin(), parameters.end());
  const std::vector<std::span<float>> outputs(gradients.begin(), gradients.end());
  for (auto& array : gradients) std::ranges::fill(array, 1.0f);
  model.TrainMicroBatch({.data = &batch}, inputs, outputs);
  for (size_t i = 0; i < gradients.size(); ++i) {
    for (size_t j = 0; j < gradients[i].size(); ++j) {
      EXPECT_NEAR(gradients[i][j], once.gradients[i][j] + 1, 1e-6);
    }
  }
}

// What the promise of equal bits rests on: no memory of what was computed in between, of any size.
TEST_F(MlpTest, GivesTheSameBitsAfterOtherMicroBatches) {
  const MemoryDataset data = MakeData(kDigits, 64, 4);
  Mlp model(kDigits, 0.2f, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 16);
  const Outcome first = Compute(model, parameters, batch, 5);
  ExpectSameBits(first, Compute(model, parameters, batch, 5));
  Compute(model, parameters, ReadRows(data, 16, 16), 6);
  Compute(model, parameters, ReadRows(data, 32, 32), 7);
  Compute(model, parameters, ReadRows(data, 3, 1), 8);
  const std::vector<std::span<const float>> tensors(parameters.begin(), parameters.end());
  model.Evaluate(tensors);
  ExpectSameBits(first, Compute(model, parameters, batch, 5));
  Mlp other(kDigits, 0.2f, data);
  ExpectSameBits(first, Compute(other, parameters, batch, 5));
}

// Another worker has its parameters and samples at other addresses, which must not choose other instructions.
TEST_F(MlpTest, GivesTheSameBitsAtAnyAddress) {
  const MemoryDataset data = MakeData(kDigits, 16, 4);
  Mlp model(kDigits, 0.2f, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 16);
  const Outcome first = Compute(model, parameters, batch);
  for (size_t shift = 1; shift < 16; ++shift) {
    Arrays shifted;
    Arrays gradients;
    std::vector<std::span<const float>> inputs;
    std::vector<std::span<float>> outputs;
    for (const auto& array : parameters) {
      shifted.emplace_back(shift).insert(shifted.back().end(), array.begin(), array.end());
      gradients.emplace_back(array.size() + shift);
    }
    for (const auto& array : shifted) inputs.push_back(std::span(array).subspan(shift));
    for (auto& array : gradients) outputs.push_back(std::span(array).subspan(shift));
    Outcome outcome;
    outcome.loss = model.TrainMicroBatch({.data = &batch, .random = Random(0)}, inputs, outputs);
    for (const auto& output : outputs) outcome.gradients.emplace_back(output.begin(), output.end());
    SCOPED_TRACE(shift);
    ExpectSameBits(first, outcome);
  }
}

TEST_F(MlpTest, DrawsItsNoiseFromTheMicroBatch) {
  const MemoryDataset data = MakeData(kSmall, 6, 2);
  Mlp model(kSmall, 0.2f, data);
  const Arrays parameters = Initial(model);
  const Batch batch = ReadRows(data, 0, 6);
  EXPECT_EQ(Compute(model, parameters, batch, 1).loss, Compute(model, parameters, batch, 1).loss);
  EXPECT_NE(Compute(model, parameters, batch, 1).loss, Compute(model, parameters, batch, 2).loss);
  Mlp quiet(kSmall, 0, data);
  EXPECT_EQ(Compute(quiet, parameters, batch, 1).loss, Compute(quiet, parameters, batch, 2).loss);
}

// Logits of 1,000 would overflow a softmax that takes their powers as they are.
TEST_F(MlpTest, StaysFiniteWithLargeLogits) {
  const MemoryDataset data = MakeData(kSmall, 6, 2);
  Mlp model(kSmall, 0, data);
  Arrays parameters = Initial(model);
  for (auto& array : parameters) {
    for (float& value : array) value *= 100;
  }
  const Outcome outcome = Compute(model, parameters, ReadRows(data, 0, 6));
  EXPECT_TRUE(std::isfinite(outcome.loss));
  EXPECT_GT(outcome.loss, 100);
  for (const auto& array : outcome.gradients) {
    for (float gradient : array) ASSERT_TRUE(std::isfinite(gradient));
  }
}

TEST_F(MlpTest, StartsWithTheVarianceOfHe) {
  const MemoryDataset data = MakeData(kDigits, 1, 1);
  Mlp model(kDigits, 0, data);
  Arrays arrays = Zeros(model);
  arrays[1][0] = arrays[3][0] = 9;  // must be overwritten
  const std::vector<std::span<float>> tensors(arrays.begin(), arrays.end());
  Random random(1);
  model.Initialize(tensors, random);
  const auto variance = [](const std::vector<float>& values) {
    double sum = 0;
    for (float value : values) sum += double{value} * value;
    return sum / static_cast<double>(values.size());
  };
  EXPECT_NEAR(variance(arrays[0]), 2.0 / 64, 0.002);
  EXPECT_NEAR(variance(arrays[2]), 2.0 / 128, 0.0025);
  EXPECT_EQ(variance(arrays[1]), 0);
  EXPECT_EQ(variance(arrays[3]), 0);
}

// The first logit is always the largest: exactly the samples of class 0 are right. 700 rows take three batches.
TEST_F(MlpTest, EvaluatesTheShareOfRightAnswers) {
  const MemoryDataset data = MakeData(kSmall, 700, 2);
  Mlp model(kSmall, 0.2f, data);
  Arrays parameters = Zeros(model);
  parameters[3][0] = 1;
  const std::vector<std::span<const float>> tensors(parameters.begin(), parameters.end());
  EXPECT_DOUBLE_EQ(model.Evaluate(tensors).at("test_accuracy"), 234.0 / 700);
}

}  // namespace
}  // namespace muster
