// The network on a GPU, or on the stand-ins for driver and cuBLAS, against the one on the CPU: the same gradients, but for the order of
// additions.
#include "models/digits/gpu_mlp.h"

#include <gmock/gmock.h>

#include <cmath>
#include <optional>
#include <vector>

#include "runtime/cuda/testing/test_gpu.h"

namespace muster {
namespace {

using testing::HasSubstr;
using Arrays = std::vector<std::vector<float>>;

constexpr Mlp::Shape kShape{.inputs = 64, .hidden = 128, .classes = 10};
constexpr int64_t kSamples = 300;  // more than the threads of a block
constexpr float kNoise = 0.2F;

class GpuMlpTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = cuda::Device::Open(0);
    if (!device) GTEST_SKIP() << device.error().ToString();
    gpu_.emplace(std::move(*device));
    Random random(1);
    data_.size = kSamples;
    for (int64_t i = 0; i < kSamples * kShape.inputs; ++i) {
      data_.features.push_back(random.Uniform());
    }
    for (int64_t i = 0; i < kSamples; ++i) {
      data_.labels.push_back(static_cast<int32_t>(i % kShape.classes));
    }
    for (const Parameter& parameter : model_.Parameters()) {
      auto& values = parameters_.emplace_back(parameter.size());
      for (float& value : values) value = 0.1F * random.Normal();
      gradients_.emplace_back(parameter.size(), 0.25F);  // which the model adds to
    }
  }

  const Random random_{7};
  Batch data_;
  const MemoryDataset test_{std::vector<float>(kShape.inputs), kShape.inputs, {0}, 1};
  Mlp model_{kShape, kNoise, test_};
  Arrays parameters_;
  Arrays gradients_;
  std::optional<TestGpu> gpu_;
};

TEST_F(GpuMlpTest, HasTheGradientsOfTheCpu) {
  auto made = model_.OnGpu(gpu_->device());
  if (!made && made.error().code == Code::kNotFound) GTEST_SKIP() << made.error().ToString();
  ASSERT_TRUE(made) << made.error().ToString();
  EXPECT_THAT((*made)->Numerics(), HasSubstr("cublas=13"));

  std::vector<std::span<const float>> parameters;
  std::vector<std::span<float>> gradients;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters.emplace_back(gpu_->Copy(parameters_[i]), parameters_[i].size());
    gradients.emplace_back(gpu_->Copy(gradients_[i]), gradients_[i].size());
  }
  std::vector<size_t> ready;
  const GpuWork gpu{gpu_->stream(), gpu_->Copy(std::vector<double>(1)),
                    [&](size_t first) -> Status {
                      ready.push_back(first);
                      return {};
                    }};
  // Twice, so that what a micro-batch leaves behind would be seen.
  for (int i = 0; i < 2; ++i) {
    const MicroBatch batch{.data = &data_, .random = random_, .gpu = &gpu};
    const Status queued = (*made)->TrainMicroBatch(batch, parameters, gradients);
    ASSERT_TRUE(queued) << queued.error().ToString();
  }
  EXPECT_EQ(ready, (std::vector<size_t>{2, 2}));
  const double loss = gpu_->Back(gpu.loss, 1)[0];

  const std::vector<std::span<const float>> on_host(parameters_.begin(), parameters_.end());
  const std::vector<std::span<float>> expected(gradients_.begin(), gradients_.end());
  double expected_loss = 0;
  for (int i = 0; i < 2; ++i) {
    expected_loss = model_.TrainMicroBatch({.data = &data_, .random = random_}, on_host, expected);
  }
  EXPECT_NEAR(loss, expected_loss, 1e-6);
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::vector<float> found = gpu_->Back(gradients[i].data(), expected[i].size());
    for (size_t j = 0; j < found.size(); ++j) {
      ASSERT_NEAR(found[j], expected[i][j], 1e-5) << "parameter " << i << ", element " << j;
    }
  }
}

}  // namespace
}  // namespace muster
