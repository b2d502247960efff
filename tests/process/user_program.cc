// Learns on which side of a plane a point lies: logistic regression on points that the program makes up.
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "runtime/train/train.h"

using namespace muster;

constexpr int64_t kWidth = 8;  // coordinates of a point

MemoryDataset MakePoints(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> points(count * kWidth);
  std::vector<int32_t> labels(count);
  for (int64_t i = 0; i < count; ++i) {
    float side = 0.3f;  // the plane: the coordinates, with changing signs, add up to -0.3
    for (int64_t j = 0; j < kWidth; ++j) {
      points[i * kWidth + j] = random.Uniform(-1, 1);
      side += j % 2 == 0 ? points[i * kWidth + j] : -points[i * kWidth + j];
    }
    labels[i] = side > 0 ? 1 : 0;
  }
  return MemoryDataset(std::move(points), kWidth, std::move(labels), 1);
}

class Plane : public Model {
 public:
  std::vector<Parameter> Parameters() const override {
    return {{"weight", {kWidth}}, {"bias", {1}}};
  }

  void Initialize(Tensors parameters, Random& random) override {
    for (float& weight : parameters[0]) weight = 0.1f * random.Normal();
    parameters[1][0] = 0;
  }

  double TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                         Tensors gradients) override {
    const auto size = static_cast<float>(batch.data->size);
    double loss = 0;
    for (int64_t i = 0; i < batch.data->size; ++i) {
      const float* point = &batch.data->features[i * kWidth];
      const float sign = batch.data->labels[i] == 1 ? 1.0f : -1.0f;
      const float margin = sign * Score(point, parameters);
      loss += std::log1p(std::exp(-margin)) / size;
      const float slope = -sign / (1 + std::exp(margin)) / size;  // of the loss, by the score
      for (int64_t j = 0; j < kWidth; ++j) gradients[0][j] += slope * point[j];
      gradients[1][0] += slope;
    }
    return loss;
  }

  Metrics Evaluate(ConstTensors parameters) override {
    std::vector<int64_t> all(1'000);
    std::iota(all.begin(), all.end(), 0);
    Batch test;
    if (!MakePoints(1'000, 2).Read(all, test)) return {};
    double right = 0;
    for (int64_t i = 0; i < test.size; ++i) {
      right += (Score(&test.features[i * kWidth], parameters) > 0) == (test.labels[i] == 1);
    }
    return {{"test_accuracy", right / static_cast<double>(test.size)}};
  }

 private:
  static float Score(const float* point, ConstTensors parameters) {
    return std::inner_product(point, point + kWidth, parameters[0].begin(), parameters[1][0]);
  }
};

int main(int argc, char** argv) {
  TrainOptions options = ParseTrainOptions(argc, argv, "Learns a plane.", {.steps = 1000});
  options.learning_rate = CosineRate(0.5, /*warmup=*/20, options.steps);
  Plane model;
  return Train(model, MakePoints(10'000, 1), *Sgd(), options);
}
