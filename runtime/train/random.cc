#include "runtime/train/random.h"

#include <cmath>
#include <numbers>

#include "runtime/base/check.h"

namespace muster {
namespace {

// Multipliers and Weyl increments of Philox 4x32 (Salmon et al., SC'11, table 2).
constexpr uint64_t kMultiplier0 = 0xD2511F53;
constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
constexpr uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {High(product1) ^ counter[1] ^ key[0], Low(product1),
               High(product0) ^ counter[3] ^ key[1], Low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// The 128 bits of (stream, substream) are permuted under the seed; half of the result is the key of the stream, the other
// half the upper counter words. A permutation keeps different streams of a seed apart for certain, not only probably.
Random::Random(uint64_t seed, uint64_t stream, uint64_t substream) {
  const auto identity = Philox4x32({Low(stream), High(stream), Low(substream), High(substream)},
                                   {Low(seed), High(seed)});
  key_ = {identity[0], identity[1]};
  counter_ = {0, 0, identity[2], identity[3]};
}

void Random::Refill() {
  block_ = Philox4x32(counter_, key_);
  used_ = 0;
  if (++counter_[0] == 0) ++counter_[1];
}

uint32_t Random::Next() {
  if (used_ == 4) Refill();
  return block_[used_++];
}

float Random::Uniform() { return static_cast<float>(Next() >> 8) * 0x1p-24f; }

// Rounding may carry low + u x (high - low) up to `high` itself, which is outside of the interval.
float Random::Uniform(float low, float high) {
  const float value = low + (high - low) * Uniform();
  return value < high ? value : std::nextafter(high, low);
}

// Box-Muller's second number is not kept: a stream has no other state than its position.
float Random::Normal() {
  const double radius_draw = (Next() + 1.0) * 0x1p-32;  // in (0, 1]: the logarithm is finite
  const double angle_draw = Next() * 0x1p-32;           // in [0, 1)
  return static_cast<float>(std::sqrt(-2.0 * std::log(radius_draw)) *
                            std::cos(2.0 * std::numbers::pi * angle_draw));
}

uint64_t Random::Below(uint64_t bound) {
  MUSTER_CHECK(bound > 0, "Random::Below needs a bound of at least 1");
  // The draws below 2^64 mod bound are rejected: of the others, each remainder has equally many.
  const uint64_t rejected = (0 - bound) % bound;
  for (;;) {
    const uint64_t low = Next();
    const uint64_t draw = uint64_t{Next()} << 32 | low;
    if (draw >= rejected) return draw % bound;
  }
}

}  // namespace muster
