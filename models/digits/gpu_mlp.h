// GpuMlp: the network of mlp.h on a GPU: matrix products by cuBLAS, the rest by kernels of our own (mlp_kernels.h).
//
// Threading and ownership: as GpuModel.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "models/digits/cublas.h"
#include "models/digits/mlp.h"
#include "runtime/train/gpu.h"

namespace muster {

class GpuMlp : public GpuModel {
 public:
  // Errors: those of Blas::Create, kFailedPrecondition (this build has no kernels), kResourceExhausted.
  static Result<std::unique_ptr<GpuModel>> Create(cuda::Device& device, const Mlp::Shape& shape,
                                                  float noise);

  std::string Numerics() const override { return fmt::format("cublas={}", blas_->version()); }
  Status TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                         Tensors gradients) override;

 private:
  // Samples on their way to the GPU, in memory of the host that it reads by itself.
  struct Slot {
    std::span<std::byte> memory;
    cuda::Event read = nullptr;  // it has been
  };
  static constexpr size_t kSlots = 4;

  GpuMlp(cuda::Device& device, const Mlp::Shape& shape, float noise)
      : device_(device), shape_(shape), noise_(noise) {}
  Status FindKernels();
  // For micro-batches of so many samples: all have as many.
  Status Allocate(int64_t count);
  Status CopySamples(const MicroBatch& batch);
  Status Forward(ConstTensors parameters, cuda::Stream stream);
  Status Backward(const GpuWork& gpu, ConstTensors parameters, Tensors gradients);

  cuda::Device& device_;
  const Mlp::Shape shape_;
  const float noise_;
  std::unique_ptr<Blas> blas_;
  struct {
    cuda::Function fill_rows, add_rows, relu, mask, softmax, mean_loss;
  } kernels_ = {};

  int64_t count_ = 0;  // samples of a micro-batch; 0: there has been none
  std::array<Slot, kSlots> slots_;
  size_t next_slot_ = 0;
  // In the memory of the device.
  cuda::DevicePointer samples_ = 0;   // inputs, then labels
  float* inputs_ = nullptr;           // count x inputs, with noise
  int32_t* labels_ = nullptr;         // count
  float* hidden_ = nullptr;           // count x hidden, after ReLU
  float* logits_ = nullptr;           // count x classes, then their gradient
  float* hidden_gradient_ = nullptr;  // count x hidden
  double* losses_ = nullptr;          // count
};

}  // namespace muster
