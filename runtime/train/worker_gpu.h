// WorkerGpu: the GPU that a worker trains on: chosen, checked, and ready for its program; or the decision to train on the CPU.
//
// Threading: free functions, called once.
#pragma once

#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/cuda/device.h"
#include "runtime/train/environment.h"
#include "runtime/train/train.h"

namespace muster {

struct WorkerGpu {
  std::unique_ptr<cuda::Device> device;  // null: the CPU
  std::string numerics;                  // of the program on it
};

// By environment.device. Errors: kInvalidArgument (cuda is wanted of a program that trains on CPUs only), kUnavailable (it cannot be had
// here, or is not in order: named, with what it did).
Result<WorkerGpu> OpenWorkerGpu(const WorkerEnvironment& environment, const SessionSpec& spec);

// Whether `device` still does what it is told; after some errors it never does again. Errors: kUnavailable, with what it says.
Status AskGpu(cuda::Device& device);

}  // namespace muster
