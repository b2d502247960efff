#include "collectives/reduce.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "runtime/base/check.h"

// One copy of the loops per instruction set, chosen when the program is loaded. Sanitizers are not ready at that moment.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MUSTER_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define MUSTER_CLONES
#endif

namespace muster {
namespace {

template <typename T>
T Add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

// `out` may be `a` or `b` itself; elements do not depend on each other, which the pragma tells the vectoriser.
template <typename T>
[[gnu::always_inline]] inline void CombineLoop(ReduceOp op, T* out, const T* a, const T* b,
                                               size_t count) {
  switch (op) {
    case ReduceOp::kSum:
#pragma GCC ivdep
      for (size_t i = 0; i < count; ++i) out[i] = Add(a[i], b[i]);
      return;
    case ReduceOp::kMax:
#pragma GCC ivdep
      for (size_t i = 0; i < count; ++i) out[i] = a[i] > b[i] ? a[i] : b[i];
      return;
    case ReduceOp::kMin:
#pragma GCC ivdep
      for (size_t i = 0; i < count; ++i) out[i] = a[i] < b[i] ? a[i] : b[i];
      return;
  }
}

MUSTER_CLONES void Combine(ReduceOp op, float* out, const float* a, const float* b, size_t count) {
  CombineLoop(op, out, a, b, count);
}
MUSTER_CLONES void Combine(ReduceOp op, int32_t* out, const int32_t* a, const int32_t* b,
                           size_t count) {
  CombineLoop(op, out, a, b, count);
}
MUSTER_CLONES void Combine(ReduceOp op, int64_t* out, const int64_t* a, const int64_t* b,
                           size_t count) {
  CombineLoop(op, out, a, b, count);
}

}  // namespace

template <typename T>
void ReduceInOrder(ReduceOp op, std::span<const T* const> inputs, std::span<T> out) {
  MUSTER_CHECK(!inputs.empty());
  if (inputs.size() == 1) {
    if (inputs[0] != out.data()) std::copy_n(inputs[0], out.size(), out.data());
    return;
  }
  // Partial results stay in a block of the first-level cache: `out` may be an input in the middle of the order, so it
  // must not be written before the last combination of the block.
  alignas(64) std::array<T, 8192 / sizeof(T)> partial;
  const size_t last = inputs.size() - 1;
  for (size_t begin = 0; begin < out.size(); begin += partial.size()) {
    const size_t count = std::min(partial.size(), out.size() - begin);
    const T* so_far = inputs[0] + begin;
    for (size_t i = 1; i < last; ++i) {
      Combine(op, partial.data(), so_far, inputs[i] + begin, count);
      so_far = partial.data();
    }
    Combine(op, out.data() + begin, so_far, inputs[last] + begin, count);
  }
}

template void ReduceInOrder(ReduceOp, std::span<const float* const>, std::span<float>);
template void ReduceInOrder(ReduceOp, std::span<const int32_t* const>, std::span<int32_t>);
template void ReduceInOrder(ReduceOp, std::span<const int64_t* const>, std::span<int64_t>);

}  // namespace muster
