// ThroughHost: computes on a GPU what a function computes on the host, for tests that compare the two: parameters are fetched, and
// gradients and losses are copied in.
//
// Threading: one thread. Ownership: the device outlives it.
#pragma once

#include <memory>
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
    std::vector<std::vector<float>> copies;
    std::vector<std::vector<float>> results;
    std::vector<std::span<const float>> on_host;
    std::vector<std::span<float>> results_on_host;
    for (const auto parameter : parameters) {
      auto& copy = copies.emplace_back(parameter.size());
      MUSTER_TRY(device_.CopyOut(std::as_writable_bytes(std::span(copy)),
                                 cuda::AddressOf(parameter.data()), stream));
      auto& result = results.emplace_back(parameter.size());
      on_host.emplace_back(copy);
      results_on_host.emplace_back(result);
    }
    MUSTER_TRY(Await(stream));
    MUSTER_ASSIGN(const double loss, compute_(batch, on_host, results_on_host));
    for (size_t i = results.size(); i-- > 0;) {
      MUSTER_TRY(device_.CopyIn(cuda::AddressOf(gradients[i].data()),
                                std::as_bytes(std::span(results[i])), stream));
      MUSTER_TRY(batch.gpu->ready(i));
    }
    MUSTER_TRY(device_.CopyIn(cuda::AddressOf(batch.gpu->loss), std::as_bytes(std::span(&loss, 1)),
                              stream));
    MUSTER_TRY(Await(stream));
    return 0.0;
  }

 private:
  Status Await(cuda::Stream stream) {
    MUSTER_TRY(device_.Record(done_, stream));
    return device_.Await(done_, "a copy", MonotonicNow() + std::chrono::minutes(1));
  }

  cuda::Device& device_;
  const ComputeMicroBatch compute_;
  const cuda::Event done_;
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
