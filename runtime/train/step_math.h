// StepMath: the arithmetic of a step where its memory is: on the host (host_math.h) or on a GPU (cuda/device_math.h), with the same bits
// for the same gradients. It decides nothing: the step engine says what is done, and when.
//
// Parameters, optimizer slots and block exponents lie where the arithmetic is done. The image of the state, which pages, strips and
// checkpoints are cut from, is in host memory: on a GPU it is a copy, up to date after Fetch().
//
// Threading: one thread at a time. Ownership: all that a frame refers to outlives it. Errors of a GPU are those of cuda::Device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/exact/exact.h"
#include "runtime/base/status.h"
#include "runtime/core/vote.h"
#include "runtime/state/state.h"
#include "runtime/train/train.h"

namespace muster {

// What the arithmetic of a run works on.
struct StepFrame {
  const SessionSpec& spec;
  Reduce reduce;
  const BlockLayout& layout;
  const ExactOptions& exact;
  State& state;

  size_t lane_bytes() const {
    return reduce == Reduce::kFloat ? sizeof(float) : static_cast<size_t>(exact.lane_bits) / 8;
  }
  size_t sums_bytes() const { return layout.elements() * lane_bytes(); }
  size_t exponents_tensor() const { return state.tensors().size() - 1; }
  // The spans of one float a model element, one after the other from `memory` on.
  std::vector<std::span<float>> CutByParameter(float* memory) const;
};

// Lanes in memory as what they are.
template <typename T>
std::span<T> LanesOf(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

class StepMath {
 public:
  // What this member's gradients have shown in a step.
  struct Shown {
    ExactFlags flags;
    std::vector<int16_t> observed;  // exponents, by block
    std::vector<double> losses;     // by micro-batch; of those computed here
  };

  virtual ~StepMath() = default;

  // What the bits of a model's gradients depend on here, the same on all members: "cpu", "cuda NVIDIA H100 80GB HBM3 cublas=130100".
  virtual std::string Describe() const = 0;

  // --- A step ---
  // Sums are zero, and nothing has been shown. With `communicator` the sums of all members are begun as soon as this one's micro-batches
  // are complete; without, Sum() does all of it.
  virtual Status Begin(Communicator* communicator) = 0;
  // Has the gradient of `batch` computed, and adds it up; `last`: no other one follows in this step. Errors: those of `compute`, and of
  // Communicator.
  virtual Status Add(MicroBatch batch, bool last, const ComputeMicroBatch& compute) = 0;
  // The sums become those of all members, and shown() is complete. Errors: those of Communicator.
  virtual Status Sum(Communicator& communicator) = 0;
  const Shown& shown() const { return shown_; }

  // --- What its outcome does, to blocks of which nothing else is needed ---
  // Takes the exponents that all members have shown. With exact reduction it precedes what follows.
  virtual Status Agree(const Vote& outcome) = 0;
  // The mean gradient of these blocks, from the sums.
  virtual Status TakeMean(BlockRange blocks) = 0;
  // Of the mean gradient of all blocks; the order of additions is that of SumOfSquares() in exact.h.
  virtual Result<double> SumOfSquares() = 0;
  // Parameters, slots and exponents, from the mean gradient times `scale`.
  virtual Status Update(BlockRange blocks, const UpdateContext& context, double scale) = 0;
  // Exponents, after a miss.
  virtual Status Raise(BlockRange blocks) = 0;
  // Returns when all that was asked for is done.
  virtual Status Settle() = 0;

  // --- The state's image ---
  // Parts of it become what they are where the arithmetic is done, and the other way round. The header is only in the image.
  using Parts = std::span<const std::span<std::byte>>;
  virtual Status Fetch(Parts parts) = 0;
  virtual Status Push(Parts parts) = 0;

  // --- Sums of the step applied last ---
  // Parts of sums() become what they are where the arithmetic is done, and the other way round.
  virtual Status PushSums(Parts parts) = 0;
  // Sums as they are now, at the same places, in memory that is the caller's until it is the `spare` of another call. They are there
  // when `await`, which any thread may call, has returned, and it must have before that.
  struct HandedOut {
    std::span<std::byte> sums;
    std::function<Status()> await;
  };
  // These parts of the sums, or more.
  virtual Result<HandedOut> HandOutSums(std::span<std::byte> spare, Parts parts) = 0;
  // Memory that sums or strips are often copied to or from: while what is returned lives, that is faster. Safe from any thread.
  virtual std::shared_ptr<void> Pin(std::span<std::byte>) { return nullptr; }
  // Lanes in host memory that collectives reduce in place.
  std::span<std::byte> sums() { return sums_; }

 protected:
  explicit StepMath(const StepFrame& frame);
  // Errors: kResourceExhausted.
  Status AllocateSums(Backend& backend);
  // Adds up sums() over all members, in host memory.
  Status SumOnHost(Communicator& communicator);

  const StepFrame frame_;
  std::span<std::byte> sums_;
  Shown shown_;
};

}  // namespace muster
