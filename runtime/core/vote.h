// Vote: the last collective of a step, as pure data. A step is committed when every member has the votes of all.
//
// A vote is a vector of int32 that is max-reduced over all members: flags; the step and the prepared generation, both
// also negated, so that their minimum comes along; the losses of the micro-batches (exactly one member contributes each); and
// the block exponents that the gradients showed. Layout: [flags 3][step, -step][prepared, -prepared][V x (present, high,
// low)][exponents].
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace muster {

class Vote {
 public:
  // A vote that says nothing yet: of a step with `micro_batches` losses and `blocks` exponents.
  Vote(int micro_batches, size_t blocks);

  // --- What a member says ---
  void SetStep(uint64_t step);
  void SetMiss() { lanes_[kMiss] = 1; }
  void SetNonFinite() { lanes_[kNonFinite] = 1; }
  void SetStop() { lanes_[kStop] = 1; }
  // The generation that is built and may be switched to; 0: none.
  void SetPrepared(uint64_t generation);
  void SetLoss(int micro_batch, double loss);
  void SetExponents(std::span<const int16_t> observed);

  // --- To be max-reduced ---
  std::span<int32_t> lanes() { return lanes_; }
  std::span<const int32_t> lanes() const { return lanes_; }

  // --- What all have said, after the reduction ---
  bool miss() const { return lanes_[kMiss] != 0; }
  bool non_finite() const { return lanes_[kNonFinite] != 0; }
  bool stop() const { return lanes_[kStop] != 0; }
  // All members voted on the same step, and every micro-batch has its loss.
  bool consistent() const;
  uint64_t step() const { return static_cast<uint64_t>(lanes_[kStep]); }
  // The generation that every member has prepared and that is newer than `active`; 0 if there is none.
  uint64_t SwitchTo(uint64_t active) const;
  // The mean of the V losses, summed in micro-batch order.
  double MeanLoss() const;
  void GetExponents(std::span<int16_t> observed) const;

 private:
  enum Lane { kMiss, kNonFinite, kStop, kStep, kMinusStep, kPrepared, kMinusPrepared, kLosses };
  int micro_batches_;
  std::vector<int32_t> lanes_;
};

}  // namespace muster
