// Block: a GPU kernel as a program of one block of threads, written once and compiled twice: by nvcc for the GPU, and by the C++ compiler
// as plain loops, so that its results are tested where there is no GPU (tests/cuda has a driver that runs it).
//
//   template <typename T> MUSTER_DEVICE void LargestOfBlock(const Block& block, const Arguments& arguments) {
//     Block::Each<int32_t> mine;                                  // one for every thread
//     block.ForEach([&](int thread) { mine[thread] = ...; });     // every thread does this
//     const int32_t largest = block.Max(mine);                    // all threads meet, and get it
//   }
//
// What lies in MUSTER_SHARED memory is seen by the other threads after the next Sync() (Max and Any are one, too). A program must reach
// Sync, Max and Any with all threads of a block.
//
// Threading: a GPU runs blocks in any order and together; a program may depend on no other block.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define MUSTER_DEVICE __device__ __forceinline__
#define MUSTER_SHARED __shared__
#else
#include <algorithm>
#include <atomic>
#define MUSTER_DEVICE inline
#define MUSTER_SHARED
#endif

namespace muster::cuda {

#ifdef __CUDACC__

class Block {
 public:
  static constexpr int kThreads = 256;

  template <typename T>
  class Each {
   public:
    MUSTER_DEVICE T& operator[](int) { return mine_; }

   private:
    T mine_;
  };

  MUSTER_DEVICE size_t index() const { return blockIdx.x; }
  template <typename Act>
  MUSTER_DEVICE void ForEach(Act act) const {
    act(static_cast<int>(threadIdx.x));
  }
  // For one of the threads only.
  template <typename Act>
  MUSTER_DEVICE void Once(Act act) const {
    if (threadIdx.x == 0) act();
  }
  MUSTER_DEVICE void Sync() const { __syncthreads(); }
  MUSTER_DEVICE int32_t Max(Each<int32_t>& values) const {
    __shared__ int32_t of_warps[kThreads / 32];
    const int32_t of_warp = __reduce_max_sync(0xffffffffu, values[0]);
    __syncthreads();  // nobody reads what an earlier Max() has left there
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = of_warp;
    __syncthreads();
    int32_t largest = of_warps[0];
    for (int warp = 1; warp < kThreads / 32; ++warp) largest = max(largest, of_warps[warp]);
    return largest;
  }
  MUSTER_DEVICE bool Any(Each<bool>& values) const { return __syncthreads_or(values[0]) != 0; }
};

MUSTER_DEVICE void AtomicOr(uint32_t* flags, uint32_t bits) { atomicOr(flags, bits); }
MUSTER_DEVICE void AtomicAdd(uint32_t* sum, uint32_t value) { atomicAdd(sum, value); }

#else

class Block {
 public:
  static constexpr int kThreads = 256;

  explicit Block(size_t index) : index_(index) {}

  template <typename T>
  class Each {
   public:
    T& operator[](int thread) { return values_[thread]; }

   private:
    T values_[kThreads];
  };

  size_t index() const { return index_; }
  template <typename Act>
  void ForEach(Act act) const {
    for (int thread = 0; thread < kThreads; ++thread) act(thread);
  }
  template <typename Act>
  void Once(Act act) const {
    act();
  }
  void Sync() const {}
  int32_t Max(Each<int32_t>& values) const {
    return *std::max_element(&values[0], &values[0] + kThreads);
  }
  bool Any(Each<bool>& values) const {
    return std::any_of(&values[0], &values[0] + kThreads, [](bool value) { return value; });
  }

 private:
  size_t index_;
};

inline void AtomicOr(uint32_t* flags, uint32_t bits) {
  std::atomic_ref(*flags).fetch_or(bits, std::memory_order_relaxed);
}
inline void AtomicAdd(uint32_t* sum, uint32_t value) {
  std::atomic_ref(*sum).fetch_add(value, std::memory_order_relaxed);
}

#endif

}  // namespace muster::cuda
