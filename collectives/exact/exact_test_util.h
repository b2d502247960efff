// For the tests of exact reduction: an independent model in wide integers (no floating-point rounding in it at all), random
// gradients from a seed, and members that share a step. MUSTER_TEST_SEED=N replays a printed seed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "collectives/exact/exact.h"

namespace muster {

using Wide = __int128;

inline constexpr float kLargestFloat = std::numeric_limits<float>::max();
inline constexpr float kSmallestFloat = std::numeric_limits<float>::denorm_min();

inline uint64_t Seed() {
  const char* given = std::getenv("MUSTER_TEST_SEED");
  static const uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  return seed;
}

inline int CeilLog2(int value) {
  int bits = 0;
  while ((1 << bits) < value) ++bits;
  return bits;
}

// The model: |g| = mantissa x 2^power exactly; q = round-to-nearest-even(|g| x 2^p) by shifting. Saturates far above every limit.
inline Wide ModelTerm(float g, int p) {
  if (g == 0) return 0;
  int power = 0;
  const auto mantissa = static_cast<int64_t>(std::ldexp(std::frexp(std::fabs(g), &power), 24));
  const int shift = power - 24 + p;
  Wide term = 0;
  if (shift >= 0) {
    term = static_cast<Wide>(mantissa) << std::min(shift, 80);
  } else if (shift > -30) {
    const int64_t unit = int64_t{1} << -shift;
    const int64_t rest = mantissa % unit;
    term = mantissa / unit;
    if (2 * rest > unit || (2 * rest == unit && term % 2 == 1)) ++term;
  }
  return g < 0 ? -term : term;
}

inline int ModelScale(const ExactOptions& options, int exponent) {
  return options.lane_bits - 2 - CeilLog2(options.micro_batches) - options.headroom_bits - exponent;
}

inline bool ModelMisses(const ExactOptions& options, int exponent, float g) {
  if (g == 0 || !std::isfinite(g)) return false;
  if (exponent == kUnknownExponent) return true;
  const Wide lane_max = (Wide{1} << (options.lane_bits - 1)) - 1;
  const Wide term = ModelTerm(g, ModelScale(options, exponent));
  return (term < 0 ? -term : term) > lane_max / options.micro_batches;
}

// How a test's gradients are distributed.
enum class Shape { kNormal, kHeavyTailed, kWholeRange };

class Source {
 public:
  explicit Source(uint64_t seed) : generator_(seed) {}

  size_t Below(size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(generator_);
  }
  std::mt19937_64& generator() { return generator_; }

  float Value(Shape shape) {
    switch (shape) {
      case Shape::kNormal:
        return normal_(generator_);
      case Shape::kHeavyTailed:
        return normal_(generator_) * std::exp(4 * normal_(generator_));
      case Shape::kWholeRange:
        break;
    }
    // Any finite bit pattern: as many denormals as values of any other exponent, some zeros.
    if (Below(20) == 0) return 0;
    auto bits = static_cast<uint32_t>(generator_());
    while ((bits & 0x7f800000u) == 0x7f800000u) bits = static_cast<uint32_t>(generator_());
    return std::bit_cast<float>(bits);
  }

  std::vector<float> Gradient(const BlockLayout& layout, Shape shape) {
    std::vector<float> gradient(layout.elements());
    for (float& value : gradient) value = Value(shape);
    return gradient;
  }

 private:
  std::mt19937_64 generator_;
  std::normal_distribution<float> normal_{0, 1};
};

// One member's share of a step, or the whole of it.
template <typename Lane>
struct Share {
  explicit Share(const BlockLayout& layout)
      : sum(layout.elements()), observed(layout.blocks(), kUnknownExponent) {}

  void Add(const BlockLayout& layout, const ExactOptions& options, const BlockExponents& exponents,
           std::span<const float> gradient) {
    Merge(Accumulate<Lane>(layout, options, exponents, gradient, sum, observed));
  }

  // What the all-reduces of a step do.
  void Add(const Share& other) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += other.sum[i];
    for (size_t b = 0; b < observed.size(); ++b) {
      observed[b] = std::max(observed[b], other.observed[b]);
    }
    Merge(other.flags);
  }

  void Merge(const ExactFlags& other) {
    flags.miss |= other.miss;
    flags.non_finite |= other.non_finite;
  }

  std::vector<Lane> sum;
  std::vector<int16_t> observed;
  ExactFlags flags;
};

// All micro-batches in order on one member.
template <typename Lane>
Share<Lane> SumAlone(const BlockLayout& layout, const ExactOptions& options,
                     const BlockExponents& exponents,
                     const std::vector<std::vector<float>>& gradients) {
  Share<Lane> share(layout);
  for (const auto& gradient : gradients) share.Add(layout, options, exponents, gradient);
  return share;
}

// The micro-batches in a random order, dealt to `world` members at random, members added in a random order.
template <typename Lane>
Share<Lane> SumSplit(const BlockLayout& layout, const ExactOptions& options,
                     const BlockExponents& exponents,
                     const std::vector<std::vector<float>>& gradients, size_t world,
                     Source& source) {
  std::vector<size_t> order(gradients.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), source.generator());
  std::vector<Share<Lane>> members(world, Share<Lane>(layout));
  for (const size_t m : order) {
    members[source.Below(world)].Add(layout, options, exponents, gradients[m]);
  }
  std::shuffle(members.begin(), members.end(), source.generator());
  Share<Lane> total(layout);
  for (const auto& member : members) total.Add(member);
  return total;
}

// Parameters of 1 element, of exactly a block, a short last block, several blocks.
inline const BlockLayout kLayout({1, 1024, 1500, 0, 3, 4096, 1025});

template <typename Lane>
class ExactLanes : public testing::Test {
 protected:
  void SetUp() override { RecordProperty("seed", std::to_string(Seed())); }

  static ExactOptions Options(int micro_batches, int headroom_bits = 4) {
    return {.micro_batches = micro_batches,
            .lane_bits = 8 * sizeof(Lane),
            .headroom_bits = headroom_bits};
  }

  // Exponents just as `gradients` showed them.
  static BlockExponents Learn(const BlockLayout& layout, const ExactOptions& options,
                              const std::vector<std::vector<float>>& gradients) {
    BlockExponents exponents(layout.blocks());
    exponents.Raise(SumAlone<Lane>(layout, options, exponents, gradients).observed);
    return exponents;
  }
};

struct LaneNames {
  template <typename Lane>
  static std::string GetName(int) {
    return sizeof(Lane) == 4 ? "Int32" : "Int64";
  }
};

using Lanes = testing::Types<int32_t, int64_t>;

}  // namespace muster
