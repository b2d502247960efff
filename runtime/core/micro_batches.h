// Which rank computes which micro-batches of a step. Contiguous ranges whose sizes differ by at most one.
//
// Threading: pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

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

// The share of `rank` in the first step of a world in which only the ranks `veterans`, in ascending order, have trained before: they do
// all of it, so that nobody waits for those who join. Without veterans all do.
inline MicroBatchRange FirstShareOf(int rank, std::span<const int> veterans, int world,
                                    int micro_batches) {
  if (veterans.empty()) return ShareOf(rank, world, micro_batches);
  const auto me = std::ranges::find(veterans, rank);
  if (me == veterans.end()) return {};
  return ShareOf(static_cast<int>(me - veterans.begin()), static_cast<int>(veterans.size()),
                 micro_batches);
}

}  // namespace muster
