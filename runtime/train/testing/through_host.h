// ThroughHost: computes on a GPU what a function computes on the host, for tests that compare the two: parameters are fetched, and
// gradients and losses are copied in.
//
// Threading: one thread. Ownership: the device outlives it; it outlives the step, whose copies use its memory.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/time.h"
#include "runtime/train/gpu.h"

namespace muster {

class ThroughHost {
 public:
  ThroughHost(cuda::Device& device, ComputeMicroBatch compute)
      : device_(device), compute_(std::move(compute)), done_(*device.MakeEvent()) {}

  Result<double> operator()(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
    const cuda::Stream stream = batch.gpu->stream;
    if (parameters_.empty()) Allocate(parameters);
    for (size_t i = 0; i < parameters.size(); ++i) {
      MUSTER_TRY(device_.CopyOut(std::as_writable_bytes(std::span(parameters_[i])),
                                 cuda::AddressOf(parameters[i].data()), stream));
    }
    MUSTER_TRY(Await(stream));
    for (auto& gradient : gradients_) std::ranges::fill(gradient, 0.0F);
    const std::vector<std::span<const float>> from(parameters_.begin(), parameters_.end());
    const std::vector<std::span<float>> to(gradients_.begin(), gradients_.end());
    MUSTER_ASSIGN(loss_, compute_(batch, from, to));
    for (size_t i = gradients_.size(); i-- > 0;) {
      MUSTER_TRY(device_.CopyIn(cuda::AddressOf(gradients[i].data()),
                                std::as_bytes(std::span(gradients_[i])), stream));
      MUSTER_TRY(batch.gpu->ready(i));
    }
    MUSTER_TRY(device_.CopyIn(cuda::AddressOf(batch.gpu->loss), std::as_bytes(std::span(&loss_, 1)),
                              stream));
    return 0.0;
  }

 private:
  void Allocate(ConstTensors parameters) {
    for (const auto parameter : parameters) {
      parameters_.emplace_back(parameter.size());
      gradients_.emplace_back(parameter.size());
    }
  }

  Status Await(cuda::Stream stream) {
    return device_.AwaitAll(stream, done_, "a copy", MonotonicNow() + std::chrono::minutes(1));
  }

  cuda::Device& device_;
  const ComputeMicroBatch compute_;
  const cuda::Event done_;
  // Copies go on when a step is given up, so they have memory that stays.
  std::vector<std::vector<float>> parameters_;
  std::vector<std::vector<float>> gradients_;
  double loss_ = 0;
};

// The same of a model.
class ModelThroughHost : public GpuModel {
 public:
  ModelThroughHost(cuda::Device& device, Model& model)
      : compute_(device,
                 [&model](const MicroBatch& batch, ConstTensors parameters,
                          Tensors gradients) -> Result<double> {
                   return model.TrainMicroBatch(batch, parameters, gradients);
                 }) {}

  std::string Numerics() const override { return "host"; }
  Status TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                         Tensors gradients) override {
    MUSTER_TRY(compute_(batch, parameters, gradients));
    return {};
  }

 private:
  ThroughHost compute_;
};

}  // namespace muster
