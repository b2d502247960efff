// MUSTER_HOST_DEVICE: a function that CPU code and GPU kernels share.
#pragma once

#ifdef __CUDACC__
#define MUSTER_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MUSTER_HOST_DEVICE inline
#endif
