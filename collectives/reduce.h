// The arithmetic of a reduction: several inputs combined element by element, always in the order given.
//
// Threading: free functions on the caller's memory. They are vectorised and bound by memory, not by arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include "collectives/communicator.h"

namespace muster {

// out[i] = ((inputs[0][i] op inputs[1][i]) op inputs[2][i]) ... for all i of `out`. Each input holds out.size() elements;
// one of them may be `out` itself, otherwise nothing overlaps. At least one input. Integer sums wrap.
template <typename T>
void ReduceInOrder(ReduceOp op, std::span<const T* const> inputs, std::span<T> out);

extern template void ReduceInOrder(ReduceOp, std::span<const float* const>, std::span<float>);
extern template void ReduceInOrder(ReduceOp, std::span<const int32_t* const>, std::span<int32_t>);
extern template void ReduceInOrder(ReduceOp, std::span<const int64_t* const>, std::span<int64_t>);

}  // namespace muster
