// Which rank computes which micro-batches of a step. Contiguous ranges whose sizes differ by at most one.
//
// Threading: pure functions.
#pragma once

#include <cstdint>

namespace muster {

struct MicroBatchRange {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
  bool operator==(const MicroBatchRange&) const = default;
};

// The share of `rank` in `micro_batches` (V) of a world of `world` ranks, world <= V.
inline MicroBatchRange ShareOf(int rank, int world, int micro_batches) {
  const auto bound = [&](int64_t r) { return static_cast<int>(r * micro_batches / world); };
  return {bound(rank), bound(rank + 1)};
}

}  // namespace muster
