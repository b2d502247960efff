// Mlp: a network of one hidden layer, ReLU and softmax cross-entropy, on OpenBLAS matrix products. In training, every
// pixel is shaken by a little noise, so that the network learns shapes and not single pixels.
//
// Threading: one thread at a time; the scratch buffers are members.
// Same bits: every product of a micro-batch has the same shapes each time, and OpenBLAS must run on one thread
// (openblas_set_num_threads(1)), since the order of its sums depends on both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/train/train.h"

namespace muster {

class Mlp : public Model {
 public:
  struct Shape {
    int64_t inputs = 64;
    int64_t hidden = 128;
    int64_t classes = 10;
  };

  // In training, features are moved by up to `noise`, evenly; 0: not at all. `test` has `inputs` features and one label,
  // 0 to `classes` - 1, and must outlive the model.
  Mlp(const Shape& shape, float noise, const Dataset& test)
      : shape_(shape), noise_(noise), test_(test) {}

  // fc1.weight [inputs, hidden], fc1.bias [hidden], fc2.weight [hidden, classes], fc2.bias [classes].
  std::vector<Parameter> Parameters() const override;
  // Weights by He et al. 2015 (normal, variance 2 / inputs of the layer), biases zero.
  void Initialize(Tensors parameters, Random& random) override;
  double TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                         Tensors gradients) override;
  // The same on a GPU (gpu_mlp.h), with other bits: cuBLAS adds in another order.
  Result<std::unique_ptr<GpuModel>> OnGpu(cuda::Device& device) override;
  // {"test_accuracy": share of the test set whose largest logit is that of its label}.
  Metrics Evaluate(ConstTensors parameters) override;

 private:
  // Fills inputs_ with the features of `data`, moved by noise.
  void AddNoise(const Batch& data, Random random);
  // Fills hidden_ and logits_ for `count` samples.
  void Forward(const float* features, int64_t count, ConstTensors parameters);
  // Turns logits_ into the gradient of the mean loss by them; returns that loss.
  double SoftmaxLoss(std::span<const int32_t> labels);
  void Backward(const float* features, int64_t count, ConstTensors parameters, Tensors gradients);

  Shape shape_;
  float noise_;
  const Dataset& test_;
  std::vector<float> inputs_;           // count x inputs, with noise
  std::vector<float> hidden_;           // count x hidden, after ReLU
  std::vector<float> logits_;           // count x classes
  std::vector<float> hidden_gradient_;  // count x hidden
};

}  // namespace muster
