// Exact reduction on a GPU: what exact.h does, one block of elements by one block of threads, with the same bits.
//
// Arrays are those of exact.h, in the memory of the device. `begins` has the first element of every block, and the number of all
// elements at its end.
//
// Threading: as GPU kernels are; blocks write disjoint parts, `flags` by atomic operations.
#pragma once

#include <type_traits>

#include "collectives/exact/arithmetic.h"
#include "runtime/cuda/block.h"

namespace muster::exact {

inline constexpr int kElementsOfThread = kBlockSize / cuda::Block::kThreads;

// Bits of ExactFlags.
inline constexpr uint32_t kMissFlag = 1;
inline constexpr uint32_t kNonFiniteFlag = 2;

// What the elements of a block mean: `term_bits` and `limit` follow from ExactOptions (exact.h). For float lanes only `begins` is needed.
struct Scales {
  const uint64_t* begins = nullptr;
  int16_t* exponents = nullptr;
  int32_t term_bits = 0;
  int64_t limit = 0;
};

MUSTER_DEVICE int16_t ExponentOfBlock(const Scales& scales, size_t block) {
  return scales.exponents != nullptr ? scales.exponents[block] : kUnknownExponent;
}

template <typename Lane>
struct AccumulateArguments {
  Scales scales;
  const float* gradient = nullptr;
  Lane* sum = nullptr;
  int16_t* observed = nullptr;
  uint32_t* flags = nullptr;
};

// As Accumulate() of exact.h.
template <typename Lane>
MUSTER_DEVICE void AccumulateBlock(const cuda::Block& block,
                                   const AccumulateArguments<Lane>& arguments) {
  const size_t begin = arguments.scales.begins[block.index()];
  const size_t count = arguments.scales.begins[block.index() + 1] - begin;
  struct Values {
    float of[kElementsOfThread];
  };
  cuda::Block::Each<Values> values;
  cuda::Block::Each<int32_t> largest_finite;
  cuda::Block::Each<bool> non_finite;
  block.ForEach([&](int thread) {
    largest_finite[thread] = 0;
    non_finite[thread] = false;
    for (int k = 0; k < kElementsOfThread; ++k) {
      const size_t i = static_cast<size_t>(k) * cuda::Block::kThreads + thread;
      float& value = values[thread].of[k];
      value = i < count ? arguments.gradient[begin + i] : 0.0F;
      const int32_t magnitude = Magnitude(value);
      if (magnitude >= kInfinityBits) {
        non_finite[thread] = true;
      } else if (magnitude > largest_finite[thread]) {
        largest_finite[thread] = magnitude;
      }
    }
  });
  const int32_t largest = block.Max(largest_finite);
  const bool is_finite = !block.Any(non_finite);
  const int16_t exponent = arguments.scales.exponents[block.index()];
  const int scale_bits = ScaleBits(arguments.scales.term_bits, exponent);
  const bool fits = largest == 0 || (exponent != kUnknownExponent &&
                                     Fits(largest, scale_bits, arguments.scales.limit));
  block.Once([&] {
    const uint32_t flags = (fits ? 0 : kMissFlag) | (is_finite ? 0 : kNonFiniteFlag);
    if (flags != 0) cuda::AtomicOr(arguments.flags, flags);
    if (largest == 0) return;
    int16_t& observed = arguments.observed[block.index()];
    observed = NextExponent(observed, ExponentOf(largest), false);
  });
  if (!fits || !is_finite || largest == 0) return;
  block.ForEach([&](int thread) {
    for (int k = 0; k < kElementsOfThread; ++k) {
      const size_t i = static_cast<size_t>(k) * cuda::Block::kThreads + thread;
      if (i >= count) continue;
      Lane& sum = arguments.sum[begin + i];
      sum = WrappingAdd(sum, Term<Lane>(values[thread].of[k], scale_bits));
    }
  });
}

struct MeanArguments {
  Scales scales;
  const void* sum = nullptr;  // of lanes
  double mean = 1;            // 1 / V
};

template <typename Lane>
MUSTER_DEVICE Lane SumAt(const MeanArguments& arguments, size_t i) {
  return static_cast<const Lane*>(arguments.sum)[i];
}

// An element of the mean gradient from its sum; `exponent` is that of its block.
template <typename Lane>
MUSTER_DEVICE float MeanOf(const MeanArguments& arguments, Lane sum, int16_t exponent) {
  if constexpr (std::is_same_v<Lane, float>) {
    return static_cast<float>(sum * arguments.mean);
  } else {
    const int scale_bits = ScaleBits(arguments.scales.term_bits, exponent);
    return ToFloat(static_cast<double>(sum), PowerOfTwo(-scale_bits) * arguments.mean);
  }
}

// So many blocks share a block of threads: adding up one of them is a chain of additions for kPartials threads only, and a warp does it
// for all of them at once.
inline constexpr size_t kSquaredAtOnce = 4;

struct SquaresArguments {
  MeanArguments mean;
  double* squares = nullptr;  // one a block
  size_t blocks = 0;

  size_t blocks_of_threads() const { return (blocks + kSquaredAtOnce - 1) / kSquaredAtOnce; }
};

// The sum of squares of every block of the mean gradient, in the order of SumOfSquares() of exact.h; their sum in the order of blocks is
// that of all.
template <typename Lane>
MUSTER_DEVICE void SquaresOfBlocks(const cuda::Block& block, const SquaresArguments& arguments) {
  constexpr int kThreadsOfRow = cuda::Block::kThreads / static_cast<int>(kSquaredAtOnce);
  constexpr int kElements = static_cast<int>(kBlockSize) / kThreadsOfRow;  // of a thread
  const Scales& scales = arguments.mean.scales;
  const size_t first = block.index() * kSquaredAtOnce;
  // A row for each of the blocks, its end filled with zeros, which change no sum. What threads read at once, of two rows, lies in
  // different banks.
  MUSTER_SHARED double squares[kSquaredAtOnce][kBlockSize + kPartials];
  MUSTER_SHARED double partials[kSquaredAtOnce][kPartials];
  block.ForEach([&](int thread) {
    const int row = thread / kThreadsOfRow;
    const size_t index = first + row;
    if (index >= arguments.blocks) return;
    const size_t begin = scales.begins[index];
    const auto count = static_cast<int>(scales.begins[index + 1] - begin);
    const int16_t exponent = ExponentOfBlock(scales, index);
    const int lane = thread % kThreadsOfRow;
    Lane sums[kElements];  // which are all on their way before the first one is needed
    for (int k = 0; k < kElements; ++k) {
      const int i = k * kThreadsOfRow + lane;
      sums[k] = i < count ? SumAt<Lane>(arguments.mean, begin + i) : Lane{0};
    }
    for (int k = 0; k < kElements; ++k) {
      const double value = MeanOf(arguments.mean, sums[k], exponent);
      squares[row][k * kThreadsOfRow + lane] = value * value;
    }
  });
  block.Sync();
  block.ForEach([&](int thread) {
    const size_t row = thread / kPartials;
    if (row >= kSquaredAtOnce || first + row >= arguments.blocks) return;
    double partial = 0;
    for (size_t i = thread % kPartials; i < kBlockSize; i += kPartials) partial += squares[row][i];
    partials[row][thread % kPartials] = partial;
  });
  block.Sync();
  block.ForEach([&](int thread) {
    const auto row = static_cast<size_t>(thread);
    if (row >= kSquaredAtOnce || first + row >= arguments.blocks) return;
    arguments.squares[first + row] = SumOfPartials(partials[row]);
  });
}

}  // namespace muster::exact
