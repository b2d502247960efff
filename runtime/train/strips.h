// Strips: the state cut by elements. A strip is a run of blocks with everything that an update of their elements needs:
// parameters, optimizer slots, block exponents. Updates are elementwise, so a strip can be copied at one step, carried to
// another member and brought forward there by the records that follow, whatever the other strips are at.
//
// Threading: as State. Ownership: state and layout outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectives/exact/exact.h"
#include "runtime/state/state.h"

namespace muster {

// Of at most so many blocks (65,536 elements), less where that gives fewer than kManyStrips: all members have some to give.
inline constexpr size_t kStripBlocks = 64;
inline constexpr size_t kManyStrips = 64;

class Strips {
 public:
  // `state` holds `parameters` tensors, then every optimizer slot of each of them, then the block exponents.
  Strips(State& state, const BlockLayout& layout, size_t parameters);

  size_t count() const { return bytes_.size(); }
  BlockRange blocks(size_t strip) const;
  // Bytes of it when copied.
  size_t bytes(size_t strip) const { return bytes_[strip]; }

  // Where it lies in the image of the state, always in the same order.
  std::vector<std::span<std::byte>> Parts(size_t strip) const;

  // Into and out of `packed`, of bytes(strip) bytes.
  void Copy(size_t strip, std::span<std::byte> packed) const;
  void Place(size_t strip, std::span<const std::byte> packed);

  // Marks each page of the state as being at the position that all strips in it are at; UINT64_MAX where they differ, and for
  // page 0, whose header is in no strip. `positions` has one entry a strip.
  void MarkPages(std::span<const uint64_t> positions);

 private:
  State& state_;
  const BlockLayout& layout_;
  const size_t parameters_;
  const size_t slots_;
  const size_t blocks_per_strip_;
  std::vector<size_t> first_elements_;  // of each parameter, and the end
  std::vector<size_t> bytes_;
};

}  // namespace muster
