// The kernels of a training step, as programs of blocks (runtime/cuda/block.h): gradients into sums, sums into the mean gradient's norm,
// and the update, which turns a sum into a mean, into parameters and slots in one pass over memory.
//
// Threading: as GPU kernels are; blocks write disjoint parts.
#pragma once

#include "collectives/exact/kernels.h"
#include "runtime/cuda/kernel.h"
#include "runtime/train/update_rules.h"

namespace muster {

// --- Sums of float32, as everybody else has them (Reduce::kFloat) ---

struct FloatSumArguments {
  const uint64_t* begins = nullptr;
  const float* gradient = nullptr;
  float* sum = nullptr;
  uint32_t* flags = nullptr;
};

MUSTER_DEVICE void AddFloatsOfBlock(const cuda::Block& block, const FloatSumArguments& arguments) {
  const size_t end = arguments.begins[block.index() + 1];
  block.ForEach([&](int thread) {
    for (size_t i = arguments.begins[block.index()] + thread; i < end; i += cuda::Block::kThreads) {
      arguments.sum[i] += arguments.gradient[i];
    }
  });
}

// Raises exact::kNonFiniteFlag if the sum of all members is not finite somewhere.
MUSTER_DEVICE void CheckFloatsOfBlock(const cuda::Block& block,
                                      const FloatSumArguments& arguments) {
  const size_t end = arguments.begins[block.index() + 1];
  cuda::Block::Each<bool> non_finite;
  block.ForEach([&](int thread) {
    non_finite[thread] = false;
    for (size_t i = arguments.begins[block.index()] + thread; i < end; i += cuda::Block::kThreads) {
      non_finite[thread] |= exact::Magnitude(arguments.sum[i]) >= exact::kInfinityBits;
    }
  });
  if (block.Any(non_finite)) {
    block.Once([&] { cuda::AtomicOr(arguments.flags, exact::kNonFiniteFlag); });
  }
}

// --- The update ---

template <typename Rule>
struct UpdateArguments {
  exact::MeanArguments mean;  // its exponents are brought forward, too
  Rule rule;
  double scale = 1;                   // of the mean gradient, by clipping
  const int16_t* observed = nullptr;  // exponents that the step has shown; null: there are none
  bool decays = false;                // exponents do at this step
  size_t first = 0;                   // block of the layout that block 0 of the grid updates
  const uint64_t* places = nullptr;   // of every block's first element in `parameters`
  float* parameters = nullptr;  // as they lie in the state's image; slot s is s + 1 strides on
  size_t slot_stride = 0;       // in floats
};

template <typename Lane, typename Rule>
MUSTER_DEVICE void UpdateBlock(const cuda::Block& block, const UpdateArguments<Rule>& arguments) {
  const exact::Scales& scales = arguments.mean.scales;
  const size_t index = arguments.first + block.index();
  const size_t begin = scales.begins[index];
  const size_t count = scales.begins[index + 1] - begin;
  const int16_t exponent = exact::ExponentOfBlock(scales, index);
  float* parameters = arguments.parameters + arguments.places[index];
  block.ForEach([&](int thread) {
    for (size_t i = thread; i < count; i += cuda::Block::kThreads) {
      const auto sum = exact::SumAt<Lane>(arguments.mean, begin + i);
      const float mean = exact::MeanOf(arguments.mean, sum, exponent);
      const auto gradient = static_cast<float>(mean * arguments.scale);
      float* element = parameters + i;
      if constexpr (Rule::kSlots == 1) {
        arguments.rule(gradient, *element, element[arguments.slot_stride]);
      } else {
        arguments.rule(gradient, *element, element[arguments.slot_stride],
                       element[2 * arguments.slot_stride]);
      }
    }
  });
  if (arguments.observed == nullptr) return;
  block.Sync();  // all have read the old exponent
  block.Once([&] {
    scales.exponents[index] =
        exact::NextExponent(exponent, arguments.observed[index], arguments.decays);
  });
}

// After a miss.
struct RaiseArguments {
  int16_t* exponents = nullptr;
  const int16_t* observed = nullptr;
  size_t count = 0;
};

MUSTER_DEVICE void RaiseExponents(const cuda::Block& block, const RaiseArguments& arguments) {
  block.ForEach([&](int thread) {
    const size_t i = block.index() * cuda::Block::kThreads + thread;
    if (i >= arguments.count) return;
    arguments.exponents[i] =
        exact::NextExponent(arguments.exponents[i], arguments.observed[i], false);
  });
}

}  // namespace muster

// Every kernel: KERNEL(its name, the type of its arguments, its program).
#define MUSTER_STEP_KERNELS(KERNEL)                                                               \
  KERNEL(accumulate_int32, muster::exact::AccumulateArguments<int32_t>,                           \
         muster::exact::AccumulateBlock<int32_t>)                                                 \
  KERNEL(accumulate_int64, muster::exact::AccumulateArguments<int64_t>,                           \
         muster::exact::AccumulateBlock<int64_t>)                                                 \
  KERNEL(add_floats, muster::FloatSumArguments, muster::AddFloatsOfBlock)                         \
  KERNEL(check_floats, muster::FloatSumArguments, muster::CheckFloatsOfBlock)                     \
  KERNEL(squares_int32, muster::exact::SquaresArguments, muster::exact::SquaresOfBlocks<int32_t>) \
  KERNEL(squares_int64, muster::exact::SquaresArguments, muster::exact::SquaresOfBlocks<int64_t>) \
  KERNEL(squares_float, muster::exact::SquaresArguments, muster::exact::SquaresOfBlocks<float>)   \
  KERNEL(sgd_int32, muster::UpdateArguments<muster::SgdRule>,                                     \
         muster::UpdateBlock<int32_t, muster::SgdRule>)                                           \
  KERNEL(sgd_int64, muster::UpdateArguments<muster::SgdRule>,                                     \
         muster::UpdateBlock<int64_t, muster::SgdRule>)                                           \
  KERNEL(sgd_float, muster::UpdateArguments<muster::SgdRule>,                                     \
         muster::UpdateBlock<float, muster::SgdRule>)                                             \
  KERNEL(adamw_int32, muster::UpdateArguments<muster::AdamWRule>,                                 \
         muster::UpdateBlock<int32_t, muster::AdamWRule>)                                         \
  KERNEL(adamw_int64, muster::UpdateArguments<muster::AdamWRule>,                                 \
         muster::UpdateBlock<int64_t, muster::AdamWRule>)                                         \
  KERNEL(adamw_float, muster::UpdateArguments<muster::AdamWRule>,                                 \
         muster::UpdateBlock<float, muster::AdamWRule>)                                           \
  KERNEL(raise_exponents, muster::RaiseArguments, muster::RaiseExponents)
