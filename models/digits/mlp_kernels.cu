#include "models/digits/mlp_kernels.h"

MUSTER_MLP_KERNELS(MUSTER_GPU_KERNEL)
