// The side of a model that trains on a GPU, beside train.h.
//
//   class MyGpuModel : public GpuModel { ... };
//   Result<std::unique_ptr<GpuModel>> MyModel::OnGpu(cuda::Device& device) { return MyGpuModel::Create(device); }
//
// Threading: as Model.
#pragma once

#include <functional>
#include <string>

#include "runtime/cuda/device.h"
#include "runtime/train/train.h"

namespace muster {

// Where a micro-batch is computed.
struct GpuWork {
  // Copies, kernels and calls of libraries are queued here, and done later in this order. What was queued for a step is done before the
  // first micro-batch of the next is asked for, also if it was given up; until then host memory that it reads must stay as it is.
  cuda::Stream stream = nullptr;
  double* loss = nullptr;  // in the memory of the device, for the mean loss of the samples
  // Says that what has been queued completes the gradients of parameter `first` and all after it: they are added up, and summed over
  // the members, while the others are computed. Need not be said, nor of each; `first` never grows. Errors: as TrainMicroBatch.
  std::function<Status(size_t first)> ready;
};

// It is destroyed after the device has been closed: what it has there must live as the device's memory does, or until the process ends.
class GpuModel {
 public:
  virtual ~GpuModel() = default;

  // What the bits of gradients depend on beside the kind of GPU, such as "cublas=130100". Members must agree.
  virtual std::string Numerics() const = 0;

  // Queues forward and backward of `batch` on batch.gpu: the loss of its samples, and the gradient of that, which is added to `gradients`,
  // zero on entry. Parameters and gradients are in the memory of the device. It neither allocates nor waits for the device. Errors end
  // the job, or only this worker if the device has failed (kInternal).
  virtual Status TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                                 Tensors gradients) = 0;
};

}  // namespace muster
