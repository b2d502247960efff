// StepEngine: one step. Gradients of micro-batches into a sum, the sum over all members, the vote, and what its outcome does to the
// state. It knows nothing of generations; a communicator comes with each call. The arithmetic is that of step_math.h.
//
//   compute --> reduce --> vote --> apply
//
// Applying an outcome is deterministic and the same on all members: a commit (the optimizer's update), a raise of block
// exponents (the step is then computed again), or a skip. The *position* counts outcomes applied; two members differ by at
// most one.
//
// Threading: one thread. Ownership: backend, device and optimizer outlive the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/exact/exact.h"
#include "runtime/base/status.h"
#include "runtime/core/micro_batches.h"
#include "runtime/core/vote.h"
#include "runtime/state/state.h"
#include "runtime/train/cuda/device_math.h"
#include "runtime/train/step_math.h"
#include "runtime/train/strips.h"
#include "runtime/train/train.h"

namespace muster {

class StepEngine {
 public:
  // Errors: kInvalidArgument (options, duplicate or empty parameters), kResourceExhausted
  // (memory), those of DeviceMath::Create.
  static Result<std::unique_ptr<StepEngine>> Create(const SessionSpec& spec, Reduce reduce,
                                                    Backend& backend, const StepDevice& on = {});

  // Computes the micro-batches of `share` at the state's step and adds them up locally. With `communicator`, whose members are all at
  // this step, their sums are begun meanwhile where that is possible. Errors: those of `compute`, and of Communicator.
  Status Compute(MicroBatchRange share, const ComputeMicroBatch& compute,
                 Communicator* communicator = nullptr);

  // Sums over all members, then votes: for the generation `prepared` (0: none) and, if `stop`, to stop after this step. When
  // it returns without error the outcome is in `outcome()`. Errors: those of Communicator.
  Status ReduceAndVote(Communicator& communicator, uint64_t prepared, bool stop);

  enum class Applied { kCommitted, kRaised, kSkipped };
  // Applies the outcome to the state. Errors: kInternal (votes of different steps), kDataLoss (non-finite gradient).
  Result<Applied> ApplyOutcome();

  // --- What recovery needs ---
  uint64_t position() const { return state_.position(); }
  // The position whose reduced gradient is held without its outcome having been applied, or none.
  std::optional<uint64_t> reduced_at() const { return reduced_at_; }
  // The position whose outcome is held.
  std::optional<uint64_t> outcome_of() const { return outcome_of_; }
  Vote& outcome() { return outcome_; }
  // `outcome()` was filled by a peer: it is the outcome of the vote at position().
  void AdoptOutcome() { outcome_of_ = position(); }
  // The state was replaced: nothing of an older step is held any more.
  void ForgetStep();

  // --- What joiners need ---
  // An outcome that has been applied. With a commit go the sums of its step.
  struct Record {
    Vote outcome;
    Applied applied = Applied::kCommitted;
    uint64_t step = 0;
    double scale = 1;  // of the mean gradient, by clipping
  };
  const Strips& strips() const { return strips_; }
  // That of the outcome applied last.
  Record record() const { return {outcome_, applied_, outcome_.step(), scale_}; }
  // Into and out of `packed`, of strips().bytes(strip) bytes.
  Status CopyStrip(size_t strip, std::span<std::byte> packed);
  Status PlaceStrip(size_t strip, std::span<const std::byte> packed);
  // Hands out the sums of the step applied last, as far as they are those of `strips`; the next one is summed in `spare`, which is as
  // large, or that is what is handed out.
  Result<StepMath::HandedOut> HandOutSums(std::span<std::byte> spare,
                                          std::span<const size_t> strips);
  std::shared_ptr<void> Pin(std::span<std::byte> memory) { return math_->Pin(memory); }
  std::span<std::byte> sums() { return math_->sums(); }
  // The part of `sums` that belongs to `strip`.
  std::span<std::byte> SumsOf(size_t strip, std::span<std::byte> sums) const;
  // Applies `record`, whose sums are in sums(), to these strips only; the header stays as it is.
  Status ApplyTo(std::span<const size_t> strips, const Record& record);
  // Marks each page of the state as being at the position that all strips in it are at (Strips::MarkPages).
  Status MarkPages(std::span<const uint64_t> positions);

  // --- The state's image ---
  // It is read, or has been written, between these; on the CPU they do nothing.
  Status FetchState();
  Status PushState();
  State& state() { return state_; }
  // Of the image.
  ConstTensors parameters() const { return parameter_views_; }
  Tensors mutable_parameters() { return parameters_; }
  const StepSummary& summary() const { return summary_; }
  int64_t samples_per_step() const;
  // Model, options, reduction and device, a line each ("seed 1"): members must agree.
  std::string program() const;
  uint64_t program_hash() const;
  std::string weights_hash() const;
  // What of the reduction the bits depend on, in one line.
  std::string DescribeReduction() const;
  const SessionSpec& spec() const { return spec_; }

 private:
  StepEngine(const SessionSpec& spec, Reduce reduce, std::vector<TensorSpec> tensors,
             std::vector<size_t> sizes);
  MicroBatch MakeMicroBatch(int index);
  Status Commit();
  Status Update(BlockRange blocks, uint64_t step, double scale);

  const SessionSpec spec_;
  const Reduce reduce_;
  const BlockLayout layout_;
  const ExactOptions exact_;
  const SampleOrder order_;
  State state_;
  std::vector<std::span<float>> parameters_;
  std::vector<std::span<const float>> parameter_views_;
  Strips strips_;
  std::unique_ptr<StepMath> math_;
  std::vector<int64_t> samples_;
  MicroBatchRange share_;  // of the step being computed
  Vote vote_;
  Vote outcome_;  // of the last decided vote: kept while others may still need it
  std::optional<uint64_t> reduced_at_;
  std::optional<uint64_t> outcome_of_;
  Applied applied_ = Applied::kCommitted;  // what outcome_ has done, and the scale of its gradient
  double scale_ = 1;
  StepSummary summary_;
};

}  // namespace muster
