#include "runtime/core/vote.h"

#include <algorithm>
#include <bit>

#include "runtime/base/check.h"

namespace muster {

namespace {
constexpr int kLanesPerLoss = 3;
}  // namespace

Vote::Vote(int micro_batches, size_t blocks)
    : micro_batches_(micro_batches),
      lanes_(kLosses + static_cast<size_t>(micro_batches) * kLanesPerLoss + blocks, INT32_MIN) {
  lanes_[kMiss] = lanes_[kNonFinite] = lanes_[kStop] = 0;
  SetPrepared(0);
}

void Vote::SetStep(uint64_t step) {
  MUSTER_CHECK(step <= INT32_MAX, "step {}", step);
  lanes_[kStep] = static_cast<int32_t>(step);
  lanes_[kMinusStep] = -static_cast<int32_t>(step);
}

void Vote::SetPrepared(uint64_t generation) {
  MUSTER_CHECK(generation <= INT32_MAX, "generation {}", generation);
  lanes_[kPrepared] = static_cast<int32_t>(generation);
  lanes_[kMinusPrepared] = -static_cast<int32_t>(generation);
}

void Vote::SetLoss(int micro_batch, double loss) {
  const uint64_t bits = std::bit_cast<uint64_t>(loss);
  int32_t* lane = &lanes_[kLosses + static_cast<size_t>(micro_batch) * kLanesPerLoss];
  lane[0] = 1;
  lane[1] = static_cast<int32_t>(bits >> 32);
  lane[2] = static_cast<int32_t>(bits);
}

void Vote::SetExponents(std::span<const int16_t> observed) {
  std::copy(observed.begin(), observed.end(),
            lanes_.end() - static_cast<ptrdiff_t>(observed.size()));
}

bool Vote::consistent() const {
  if (int64_t{lanes_[kStep]} != -int64_t{lanes_[kMinusStep]}) return false;
  for (int i = 0; i < micro_batches_; ++i) {
    if (lanes_[kLosses + static_cast<size_t>(i) * kLanesPerLoss] != 1) return false;
  }
  return true;
}

uint64_t Vote::SwitchTo(uint64_t active) const {
  const auto highest = static_cast<uint64_t>(lanes_[kPrepared]);
  const auto lowest = static_cast<uint64_t>(-lanes_[kMinusPrepared]);
  return highest == lowest && highest > active ? highest : 0;
}

double Vote::MeanLoss() const {
  double sum = 0;
  for (int i = 0; i < micro_batches_; ++i) {
    const int32_t* lane = &lanes_[kLosses + static_cast<size_t>(i) * kLanesPerLoss];
    const uint64_t bits = static_cast<uint64_t>(static_cast<uint32_t>(lane[1])) << 32 |
                          static_cast<uint32_t>(lane[2]);
    sum += std::bit_cast<double>(bits);
  }
  return sum / micro_batches_;
}

void Vote::GetExponents(std::span<int16_t> observed) const {
  const auto first = lanes_.end() - static_cast<ptrdiff_t>(observed.size());
  std::transform(first, lanes_.end(), observed.begin(), [](int32_t lane) {
    return static_cast<int16_t>(std::max<int32_t>(lane, INT16_MIN));
  });
}

}  // namespace muster
