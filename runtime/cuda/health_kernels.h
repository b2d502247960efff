// The kernels of the health check (health.h), as programs of blocks.
//
// Threading: as GPU kernels are; blocks write disjoint parts, `wrong` by atomic operations.
#pragma once

#include <bit>
#include <cmath>

#include "runtime/base/host_device.h"
#include "runtime/cuda/kernel.h"

namespace muster::cuda {

inline constexpr size_t kWordsOfBlock = 1024;

// A word that looks like any other one: the finalizer of MurmurHash3 (Appleby, public domain).
MUSTER_HOST_DEVICE uint32_t Mixed(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85ebca6bu;
  x ^= x >> 13;
  x *= 0xc2b2ae35u;
  return x ^ (x >> 16);
}

// What thread `thread` of a block finds in so many rounds, by additions, products and roots of floats and by integers.
MUSTER_HOST_DEVICE uint32_t Computed(int thread, int rounds) {
  auto word = static_cast<uint32_t>(thread);
  float value = 1.0F + static_cast<float>(thread);
  for (int round = 0; round < rounds; ++round) {
    word = Mixed(word + std::bit_cast<uint32_t>(value));
    value = std::sqrt(value * 1.25F + static_cast<float>(word >> 8) * 0x1p-16F);
  }
  return word;
}

struct PatternArguments {
  uint32_t* words = nullptr;  // a multiple of kWordsOfBlock
  uint32_t seed = 0;
  uint32_t* wrong = nullptr;  // blocks that hold something else
};

MUSTER_HOST_DEVICE uint32_t PatternAt(size_t index, uint32_t seed) {
  return Mixed(static_cast<uint32_t>(index) ^ seed);
}

MUSTER_DEVICE void WritePattern(const Block& block, const PatternArguments& arguments) {
  block.ForEach([&](int thread) {
    for (size_t i = thread; i < kWordsOfBlock; i += Block::kThreads) {
      const size_t index = block.index() * kWordsOfBlock + i;
      arguments.words[index] = PatternAt(index, arguments.seed);
    }
  });
}

MUSTER_DEVICE void CheckPattern(const Block& block, const PatternArguments& arguments) {
  Block::Each<bool> differs;
  block.ForEach([&](int thread) {
    differs[thread] = false;
    for (size_t i = thread; i < kWordsOfBlock; i += Block::kThreads) {
      const size_t index = block.index() * kWordsOfBlock + i;
      if (arguments.words[index] != PatternAt(index, arguments.seed)) differs[thread] = true;
    }
  });
  if (block.Any(differs)) {
    block.Once([&] { AtomicAdd(arguments.wrong, 1); });
  }
}

struct ComputeArguments {
  uint32_t* results = nullptr;  // kThreads a block
  int rounds = 0;
};

MUSTER_DEVICE void Compute(const Block& block, const ComputeArguments& arguments) {
  block.ForEach([&](int thread) {
    arguments.results[block.index() * Block::kThreads + static_cast<size_t>(thread)] =
        Computed(thread, arguments.rounds);
  });
}

}  // namespace muster::cuda

#define MUSTER_HEALTH_KERNELS(KERNEL)                                              \
  KERNEL(health_write, muster::cuda::PatternArguments, muster::cuda::WritePattern) \
  KERNEL(health_check, muster::cuda::PatternArguments, muster::cuda::CheckPattern) \
  KERNEL(health_compute, muster::cuda::ComputeArguments, muster::cuda::Compute)
