#include "runtime/cuda/health_kernels.h"

MUSTER_HEALTH_KERNELS(MUSTER_GPU_KERNEL)
