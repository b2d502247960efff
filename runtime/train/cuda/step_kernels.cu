#include "runtime/train/cuda/step_kernels.h"

MUSTER_STEP_KERNELS(MUSTER_GPU_KERNEL)
