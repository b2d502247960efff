// Exact reduction: micro-batch gradients as integers, so that their sum has the same bits in any
// order.
//
// Each gradient element g of block b becomes q = round-to-nearest-even(g x 2^p). A block is 1,024
// elements, anchored to the start of its parameter. Its scale is p = lane_bits - 2 - ceil(log2 V) -
// headroom - E, with V micro-batches a step and E the block's agreed exponent: |g| < 2^E was true
// recently. q is refused (a *miss*) when |q| > floor((2^(lane_bits - 1) - 1) / V): V terms can
// never overflow, and the test does not depend on who computes what.
//
// Bound: every term, and so the mean of V terms, is off by at most 2^(-p - 1): with 32-bit lanes
// that is 2^(ceil(log2 V) + headroom - 31) x 2^E, with 64-bit lanes 2^(ceil(log2 V) + headroom -
// 63) x 2^E. Right after Raise() 2^E is at most twice the block's largest |g|. ToFloat adds the
// rounding of its result to float. A block may grow by a factor of 2^headroom, and by nearly 2
// more, before it misses. Reasons: decision 0002.
//
// Threading: plain values; const methods and the free functions are safe from several threads. The
// calling thread must be in the default floating-point environment (round to nearest, denormals
// kept).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectives/exact/arithmetic.h"
#include "runtime/base/status.h"

namespace muster {

// Blocks [begin, end): what belongs to one can be updated without the others.
struct BlockRange {
  size_t begin = 0;
  size_t end = 0;
};

// Where blocks lie: each parameter starts a new block, the last block of a parameter may be short.
class BlockLayout {
 public:
  explicit BlockLayout(const std::vector<size_t>& parameter_sizes);
  size_t blocks() const { return begins_.size() - 1; }
  size_t elements() const { return begins_.back(); }
  // Block b covers elements [begin(b), begin(b + 1)).
  size_t begin(size_t block) const { return begins_[block]; }
  BlockRange all() const { return {0, blocks()}; }

 private:
  std::vector<size_t> begins_;
};

struct ExactOptions {
  int micro_batches = 16;  // V: terms of the sum, 1 to 65,536
  int lane_bits = 64;      // 32 or 64
  int headroom_bits = 4;   // growth of a block's maximum between steps that is not a miss; 0 to 20

  // Errors: kInvalidArgument, naming the option and its range; also when V and headroom together
  // leave a term of a 32-bit lane fewer than 8 bits.
  Status Validate() const;

  // Of a term, before the exponent of its block: p = TermBits() - E.
  int TermBits() const;
  // The largest |q| of a term: V of them fit a lane.
  int64_t TermLimit() const;
};

// The lane width for a model of so many elements: 64 below 2^20, where the wire does not matter,
// else 32.
int DefaultLaneBits(size_t parameters);

// The agreed exponents of all blocks: part of the replicated state (checkpoint, joiners), equal on
// all members.
class BlockExponents {
 public:
  explicit BlockExponents(size_t blocks) : exponents_(blocks, kUnknownExponent) {}
  std::span<const int16_t> values() const { return exponents_; }
  std::span<int16_t> values() { return exponents_; }

  // After step `step` (0 is the first) is committed: takes the maximum of the exponents `observed`
  // in that step (max-reduced over all members) and the old ones, which lose one bit every 16th
  // step so that a block can become fine again. `observed` is that of all blocks; those of `range` are changed.
  void Commit(std::span<const int16_t> observed, uint64_t step, BlockRange range);
  void Commit(std::span<const int16_t> observed, uint64_t step) {
    Commit(observed, step, {0, exponents_.size()});
  }

  // After a miss: raises the exponents to those observed, so that the redo of the same step cannot
  // miss again. As Commit: those of `range`.
  void Raise(std::span<const int16_t> observed, BlockRange range);
  void Raise(std::span<const int16_t> observed) { Raise(observed, {0, exponents_.size()}); }

  // Whether a commit of `step` makes old exponents lose a bit.
  static bool DecaysAfter(uint64_t step) { return (step + 1) % kDecaySteps == 0; }

 private:
  void Advance(std::span<const int16_t> observed, bool decays, BlockRange range);

  std::vector<int16_t> exponents_;
};

// What converting gradients has shown; combined over micro-batches and members by max (flags too).
struct ExactFlags {
  bool miss = false;        // a finite value did not fit its block's scale
  bool non_finite = false;  // a NaN or an infinity
};

// Converts and accumulates; Lane is int32_t or int64_t and must agree with options.lane_bits.
//
// Accumulate adds the converted `gradient` (layout.elements() floats) into `sum` and raises
// `observed` (layout.blocks() values, kUnknownExponent at first) to the smallest e with |g| < 2^e
// over the finite values of each block; a block of zeros leaves it. On a miss or a non-finite value
// `sum` is meaningless and must be thrown away, but `observed` is still complete. Both flags depend
// on this gradient and `exponents` only.
template <typename Lane>
ExactFlags Accumulate(const BlockLayout& layout, const ExactOptions& options,
                      const BlockExponents& exponents, std::span<const float> gradient,
                      std::span<Lane> sum, std::span<int16_t> observed);

// out = sum x 2^-p x factor, computed in double, then rounded to float; `factor` is 1/V for the
// mean. A result beyond the largest float becomes that float: the mean of finite floats is finite.
// All spans are those of the whole layout; only the elements of `range` are read and written.
template <typename Lane>
void ToFloat(const BlockLayout& layout, const ExactOptions& options,
             const BlockExponents& exponents, std::span<const Lane> sum, double factor,
             std::span<float> out, BlockRange range);
template <typename Lane>
void ToFloat(const BlockLayout& layout, const ExactOptions& options,
             const BlockExponents& exponents, std::span<const Lane> sum, double factor,
             std::span<float> out) {
  ToFloat<Lane>(layout, options, exponents, sum, factor, out, layout.all());
}

// The sum of squares of `values` (layout.elements() floats) in double, in an order that only the
// layout decides: in each block element i goes to partial sum i mod 8, these are added pairwise,
// then block after block.
double SumOfSquares(const BlockLayout& layout, std::span<const float> values);

}  // namespace muster
