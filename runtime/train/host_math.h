// HostMath: the arithmetic of a step in the memory of the host, on the trainer's core. The image of the state is where it works.
//
// Threading and ownership: as StepMath.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/train/step_math.h"

namespace muster {

class HostMath : public StepMath {
 public:
  // Errors: kResourceExhausted.
  static Result<std::unique_ptr<StepMath>> Create(const StepFrame& frame, Backend& backend);

  std::string Describe() const override { return "cpu"; }
  Status Begin(Communicator* communicator) override;
  Status Add(MicroBatch batch, bool last, const ComputeMicroBatch& compute) override;
  Status Sum(Communicator& communicator) override;

  Status Agree(const Vote& outcome) override;
  Status TakeMean(BlockRange blocks) override;
  Result<double> SumOfSquares() override;
  Status Update(BlockRange blocks, const UpdateContext& context, double scale) override;
  Status Raise(BlockRange blocks) override;
  Status Settle() override { return {}; }

  Status Fetch(Parts) override { return {}; }
  Status Push(Parts) override { return {}; }
  Status PushSums(Parts) override { return {}; }
  Result<HandedOut> HandOutSums(std::span<std::byte> spare, Parts) override;

 private:
  explicit HostMath(const StepFrame& frame);
  void CopyExponents(BlockRange blocks);
  void StoreExponents(BlockRange blocks);

  std::vector<std::span<float>> parameters_;
  std::vector<std::span<const float>> parameter_views_;
  std::vector<std::vector<std::span<float>>> slots_;  // [parameter][slot]
  BlockExponents exponents_;     // a copy of the state's, in the type that exact/ wants
  std::vector<float> gradient_;  // of one micro-batch, then the reduced mean
  std::vector<std::span<float>> gradients_;
  std::vector<int16_t> agreed_;
};

}  // namespace muster
