#include "runtime/train/step_math.h"

namespace muster {

std::vector<std::span<float>> StepFrame::CutByParameter(float* memory) const {
  std::vector<std::span<float>> cut;
  for (const Parameter& parameter : spec.parameters) {
    cut.emplace_back(memory, static_cast<size_t>(parameter.size()));
    memory += parameter.size();
  }
  return cut;
}

StepMath::StepMath(const StepFrame& frame) : frame_(frame) {
  shown_.observed.resize(frame.layout.blocks(), kUnknownExponent);
  shown_.losses.resize(static_cast<size_t>(frame.spec.options.micro_batches));
}

Status StepMath::AllocateSums(Backend& backend) {
  MUSTER_ASSIGN(sums_, backend.Allocate(frame_.sums_bytes()));
  sums_ = sums_.first(frame_.sums_bytes());
  return {};
}

Status StepMath::SumOnHost(Communicator& communicator) {
  if (frame_.reduce == Reduce::kFloat) {
    return communicator.AllReduce(LanesOf<float>(sums_), ReduceOp::kSum);
  }
  return frame_.exact.lane_bits == 32
             ? communicator.AllReduce(LanesOf<int32_t>(sums_), ReduceOp::kSum)
             : communicator.AllReduce(LanesOf<int64_t>(sums_), ReduceOp::kSum);
}

}  // namespace muster
