// How a program of blocks (block.h) becomes a kernel. A header lists its kernels once, as
//
//   #define MY_KERNELS(KERNEL) KERNEL(name, type of the arguments, program) ...
//
// A file for nvcc expands MY_KERNELS(MUSTER_GPU_KERNEL); HostKernels of the same list run on the CPU.
//
// Threading: plain values.
#pragma once

#include <cstddef>

#include "runtime/cuda/block.h"

#ifdef __CUDACC__

#define MUSTER_GPU_KERNEL(name, Arguments, ...)                               \
  extern "C" __global__ void __launch_bounds__(muster::cuda::Block::kThreads) \
      name(const __grid_constant__ Arguments arguments) {                     \
    __VA_ARGS__(muster::cuda::Block(), arguments);                            \
  }

#else

namespace muster::cuda {

struct HostKernel {
  const char* name;
  size_t argument_bytes;
  void (*run)(size_t block, const void* arguments);
};

}  // namespace muster::cuda

#define MUSTER_HOST_KERNEL(name, Arguments, ...)                                        \
  muster::cuda::HostKernel{#name, sizeof(Arguments), [](size_t index, const void* of) { \
                             __VA_ARGS__(muster::cuda::Block(index),                    \
                                         *static_cast<const Arguments*>(of));           \
                           }},

#endif
