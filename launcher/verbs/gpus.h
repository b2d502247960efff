// Gpus: what this machine has for training on GPUs.
//
// Threading: none.
#pragma once

#include <vector>

#include "launcher/verbs/doctor.h"
#include "runtime/base/status.h"
#include "runtime/cuda/health.h"

namespace muster {

// Whether there is all that NCCL needs. Errors: the first thing that is missing, in a sentence: those of cuda::ListDevices and of
// loading NCCL.
Status FindGpus();

// Every GPU with its health, which takes a second or two each, and NCCL. A machine without GPUs is in order, one whose GPUs cannot be
// used is not.
std::vector<Finding> CheckGpus(const cuda::HealthOptions& options = {});

}  // namespace muster
