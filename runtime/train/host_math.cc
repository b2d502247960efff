#include "runtime/train/host_math.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/base/check.h"

namespace muster {

Result<std::unique_ptr<StepMath>> HostMath::Create(const StepFrame& frame, Backend& backend) {
  std::unique_ptr<HostMath> math(new HostMath(frame));
  MUSTER_TRY(math->AllocateSums(backend));
  return std::unique_ptr<StepMath>(std::move(math));
}

HostMath::HostMath(const StepFrame& frame)
    : StepMath(frame),
      exponents_(frame.layout.blocks()),
      gradient_(frame.layout.elements()),
      gradients_(frame.CutByParameter(gradient_.data())),
      agreed_(frame.layout.blocks()) {
  const size_t count = frame.spec.parameters.size();
  for (size_t i = 0; i < count; ++i) {
    parameters_.push_back(frame.state.tensor<float>(i));
    parameter_views_.push_back(parameters_.back());
    std::vector<std::span<float>> slots;
    for (size_t slot = 0; slot < frame.spec.optimizer->Slots().size(); ++slot) {
      slots.push_back(frame.state.tensor<float>(count * (slot + 1) + i));
    }
    slots_.push_back(std::move(slots));
  }
}

// --- A step -------------------------------------------------------------------------------------------------------------------

Status HostMath::Begin(Communicator*) {
  std::ranges::fill(sums_, std::byte{0});
  shown_.flags = {};
  std::ranges::fill(shown_.observed, kUnknownExponent);
  CopyExponents(frame_.layout.all());
  return {};
}

Status HostMath::Add(MicroBatch batch, bool, const ComputeMicroBatch& compute) {
  std::ranges::fill(gradient_, 0.0F);
  MUSTER_ASSIGN(shown_.losses[static_cast<size_t>(batch.index)],
                compute(batch, parameter_views_, gradients_));
  ExactFlags flags;
  if (frame_.reduce == Reduce::kFloat) {
    const std::span<float> sums = LanesOf<float>(sums_);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += gradient_[i];
  } else if (frame_.exact.lane_bits == 32) {
    flags = Accumulate<int32_t>(frame_.layout, frame_.exact, exponents_, gradient_,
                                LanesOf<int32_t>(sums_), shown_.observed);
  } else {
    flags = Accumulate<int64_t>(frame_.layout, frame_.exact, exponents_, gradient_,
                                LanesOf<int64_t>(sums_), shown_.observed);
  }
  shown_.flags.miss = shown_.flags.miss || flags.miss;
  shown_.flags.non_finite = shown_.flags.non_finite || flags.non_finite;
  return {};
}

Status HostMath::Sum(Communicator& communicator) {
  MUSTER_TRY(SumOnHost(communicator));
  if (frame_.reduce == Reduce::kFloat) {
    const bool finite =
        std::ranges::all_of(LanesOf<float>(sums_), [](float x) { return std::isfinite(x); });
    shown_.flags.non_finite = shown_.flags.non_finite || !finite;
  }
  return {};
}

// --- What its outcome does ------------------------------------------------------------------------------------------------------

Status HostMath::Agree(const Vote& outcome) {
  outcome.GetExponents(agreed_);
  return {};
}

Status HostMath::TakeMean(BlockRange blocks) {
  const BlockLayout& layout = frame_.layout;
  const double mean = 1.0 / frame_.spec.options.micro_batches;
  if (frame_.reduce == Reduce::kFloat) {
    const std::span<float> sums = LanesOf<float>(sums_);
    for (size_t i = layout.begin(blocks.begin); i < layout.begin(blocks.end); ++i) {
      gradient_[i] = static_cast<float>(sums[i] * mean);
    }
    return {};
  }
  CopyExponents(blocks);
  if (frame_.exact.lane_bits == 32) {
    ToFloat<int32_t>(layout, frame_.exact, exponents_, LanesOf<int32_t>(sums_), mean, gradient_,
                     blocks);
  } else {
    ToFloat<int64_t>(layout, frame_.exact, exponents_, LanesOf<int64_t>(sums_), mean, gradient_,
                     blocks);
  }
  return {};
}

Result<double> HostMath::SumOfSquares() { return muster::SumOfSquares(frame_.layout, gradient_); }

Status HostMath::Update(BlockRange blocks, const UpdateContext& context, double scale) {
  const size_t begin = frame_.layout.begin(blocks.begin);
  const size_t end = frame_.layout.begin(blocks.end);
  if (scale != 1.0) {
    for (size_t i = begin; i < end; ++i) gradient_[i] = static_cast<float>(gradient_[i] * scale);
  }
  std::vector<std::span<float>> slots(frame_.spec.optimizer->Slots().size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto first = static_cast<size_t>(gradients_[i].data() - gradient_.data());
    const size_t from = std::max(begin, first);
    const size_t to = std::min(end, first + parameters_[i].size());
    if (from >= to) continue;
    for (size_t slot = 0; slot < slots.size(); ++slot) {
      slots[slot] = slots_[i][slot].subspan(from - first, to - from);
    }
    frame_.spec.optimizer->Update(context, parameters_[i].subspan(from - first, to - from),
                                  std::span(gradient_).subspan(from, to - from), slots);
  }
  if (frame_.reduce == Reduce::kFloat) return {};
  exponents_.Commit(agreed_, context.step, blocks);
  StoreExponents(blocks);
  return {};
}

Status HostMath::Raise(BlockRange blocks) {
  CopyExponents(blocks);
  exponents_.Raise(agreed_, blocks);
  StoreExponents(blocks);
  return {};
}

void HostMath::CopyExponents(BlockRange blocks) {
  const auto from = frame_.state.tensor<int16_t>(frame_.exponents_tensor());
  std::copy(from.begin() + static_cast<ptrdiff_t>(blocks.begin),
            from.begin() + static_cast<ptrdiff_t>(blocks.end),
            exponents_.values().begin() + static_cast<ptrdiff_t>(blocks.begin));
}

void HostMath::StoreExponents(BlockRange blocks) {
  const auto from = exponents_.values();
  std::copy(from.begin() + static_cast<ptrdiff_t>(blocks.begin),
            from.begin() + static_cast<ptrdiff_t>(blocks.end),
            frame_.state.tensor<int16_t>(frame_.exponents_tensor()).begin() +
                static_cast<ptrdiff_t>(blocks.begin));
}

// --- What joiners need ------------------------------------------------------------------------------------------------------

Result<StepMath::HandedOut> HostMath::HandOutSums(std::span<std::byte> spare, Parts) {
  MUSTER_CHECK(spare.size() == sums_.size(), "{} bytes for {}", spare.size(), sums_.size());
  return HandedOut{std::exchange(sums_, spare), [] { return Status(); }};
}

}  // namespace muster
