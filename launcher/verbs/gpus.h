// Gpus: what this machine has for training on GPUs.
//
// Threading: none.
#pragma once

#include <string>

#include "launcher/verbs/doctor.h"
#include "runtime/base/status.h"

namespace muster {

// "cuda:0 (NVIDIA H100 80GB HBM3, 79 GiB); NCCL 2.32.3". Errors: the first thing that is missing, in a sentence: those of
// cuda::ListDevices and of loading NCCL.
Result<std::string> DescribeGpus();

// A machine without GPUs is in order, one whose GPUs cannot be used is not.
Finding CheckGpus();

}  // namespace muster
