// The kernels of mlp_kernels.h, compiled for GPUs; one that no driver takes where there was no compiler for them.
#pragma once

#include "runtime/cuda/device.h"

namespace muster {

extern const cuda::KernelImage kMlpKernels;

}  // namespace muster
