#include "collectives/exact/exact.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "runtime/base/check.h"

// The inner loops are compiled twice and chosen at program start. Every operation in them is exact
// or correctly rounded, so both give the same bits. Sanitizers run before the loader's choosing
// functions could, and get one version.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MUSTER_VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define MUSTER_VECTORISED
#endif

namespace muster {

using exact::ExponentOf;
using exact::Fits;
using exact::kInfinityBits;
using exact::kPartials;
using exact::Magnitude;
using exact::PowerOfTwo;
using exact::ScaleBits;
using exact::WrappingAdd;

namespace {

// Fewer bits than this in a term of 32 bits would be noise rather than a gradient.
constexpr int kLeastTermBits = 8;

int CeilLog2(int value) { return std::bit_width(static_cast<unsigned>(value - 1)); }

MUSTER_VECTORISED int32_t LargestMagnitude(const float* values, size_t count) {
  int32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    largest = std::max(largest, Magnitude(values[i]));
  }
  return largest;
}

int32_t LargestFiniteMagnitude(const float* values, size_t count) {
  int32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const int32_t bits = Magnitude(values[i]);
    if (bits < kInfinityBits) largest = std::max(largest, bits);
  }
  return largest;
}

// How to round in float and in double without a conversion: adding 1.5 x 2^mantissa pushes the
// fraction out, rounding to nearest even, and leaves the integer in the low bits in two's
// complement.
template <typename Float>
struct Rounding;
template <>
struct Rounding<float> {
  using Bits = uint32_t;
  static constexpr float kShifter = 0x1.8p23f;
  static constexpr int kHalf = 16;  // half the bits of a lane
  static constexpr float kUp = 0x1p16f, kDown = 0x1p-16f;
};
template <>
struct Rounding<double> {
  using Bits = uint64_t;
  static constexpr double kShifter = 0x1.8p52;
  static constexpr int kHalf = 32;
  static constexpr double kUp = 0x1p32, kDown = 0x1p-32;
};

// The integer nearest to x, |x| <= 2^31 (float) or 2^63 (double). The high half is split off
// exactly and is even, so rounding the low half to even rounds x to even.
template <typename Float>
inline auto RoundToInteger(Float x) {
  using R = Rounding<Float>;
  using Bits = typename R::Bits;
  const Float shifted_high = x * R::kDown + R::kShifter;
  const Float low = x - (shifted_high - R::kShifter) * R::kUp;
  const Bits low_bits = std::bit_cast<Bits>(low + R::kShifter) - std::bit_cast<Bits>(R::kShifter);
  return static_cast<std::make_signed_t<Bits>>((std::bit_cast<Bits>(shifted_high) << R::kHalf) +
                                               low_bits);
}

// sum += round(values x 2^p) for a scale that is a normal float: most blocks. The product is exact,
// or below 2^-126, where it rounds to 0 either way.
MUSTER_VECTORISED void AddScaled(const float* values, size_t count, float scale, int32_t* sum) {
  for (size_t i = 0; i < count; ++i) {
    sum[i] = WrappingAdd(sum[i], RoundToInteger(values[i] * scale));
  }
}

// The same for any scale: a float times a power of two is exact in double.
MUSTER_VECTORISED void AddScaled(const float* values, size_t count, double scale, int32_t* sum) {
  for (size_t i = 0; i < count; ++i) {
    const int64_t term = RoundToInteger(static_cast<double>(values[i]) * scale);
    sum[i] = WrappingAdd(sum[i], static_cast<int32_t>(term));
  }
}

MUSTER_VECTORISED void AddScaled(const float* values, size_t count, double scale, int64_t* sum) {
  for (size_t i = 0; i < count; ++i) {
    sum[i] = WrappingAdd(sum[i], RoundToInteger(static_cast<double>(values[i]) * scale));
  }
}

void AddBlock(const float* values, size_t count, int scale_bits, int32_t* sum) {
  if (scale_bits >= -126 && scale_bits <= 127) {
    AddScaled(values, count, static_cast<float>(PowerOfTwo(scale_bits)), sum);
  } else {
    AddScaled(values, count, PowerOfTwo(scale_bits), sum);
  }
}

void AddBlock(const float* values, size_t count, int scale_bits, int64_t* sum) {
  AddScaled(values, count, PowerOfTwo(scale_bits), sum);
}

inline double ToDouble(int32_t value) { return value; }

// The nearest double, as the processor's own conversion gives it, but in steps that compilers can
// vectorise: both halves become exact doubles and their sum is rounded once.
inline double ToDouble(int64_t value) {
  const auto bits = static_cast<uint64_t>(value);
  const double high = std::bit_cast<double>((bits >> 32) ^ 0x4530000080000000u);
  const double low = std::bit_cast<double>((bits & 0xffffffffu) | 0x4330000000000000u);
  return (high - (0x1p84 + 0x1p63 + 0x1p52)) + low;
}

MUSTER_VECTORISED void ScaleToFloat(const int32_t* sum, size_t count, double scale, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(ToDouble(sum[i]) * scale);
}

MUSTER_VECTORISED void ScaleToFloat(const int64_t* sum, size_t count, double scale, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(ToDouble(sum[i]) * scale);
}

template <typename Lane>
void BlockToFloat(const Lane* sum, size_t count, double scale, float* out) {
  constexpr double kLargestFloat = std::numeric_limits<float>::max();
  if (static_cast<double>(std::numeric_limits<Lane>::max()) * std::fabs(scale) <= kLargestFloat) {
    ScaleToFloat(sum, count, scale, out);
    return;
  }
  for (size_t i = 0; i < count; ++i) out[i] = exact::ToFloat(ToDouble(sum[i]), scale);
}

MUSTER_VECTORISED double BlockSumOfSquares(const float* values, size_t count) {
  std::array<double, kPartials> partial{};
  size_t i = 0;
  for (; i + kPartials <= count; i += kPartials) {
    for (size_t j = 0; j < kPartials; ++j) {
      const double value = values[i + j];
      partial[j] += value * value;
    }
  }
  for (size_t j = 0; i + j < count; ++j) {
    const double value = values[i + j];
    partial[j] += value * value;
  }
  return exact::SumOfPartials(partial.data());
}

template <typename Lane>
void CheckSizes(const BlockLayout& layout, const ExactOptions& options,
                const BlockExponents& exponents, size_t sums, size_t floats) {
  MUSTER_CHECK(options.lane_bits == 8 * sizeof(Lane), "{} bits", options.lane_bits);
  MUSTER_CHECK(sums == layout.elements() && floats == layout.elements(), "{} and {} of {}", sums,
               floats, layout.elements());
  MUSTER_CHECK(exponents.values().size() == layout.blocks(), "{} exponents for {} blocks",
               exponents.values().size(), layout.blocks());
}

}  // namespace

BlockLayout::BlockLayout(const std::vector<size_t>& parameter_sizes) {
  size_t parameter_begin = 0;
  for (const size_t size : parameter_sizes) {
    for (size_t offset = 0; offset < size; offset += kBlockSize) {
      begins_.push_back(parameter_begin + offset);
    }
    parameter_begin += size;
  }
  begins_.push_back(parameter_begin);
}

Status ExactOptions::Validate() const {
  if (micro_batches < 1 || micro_batches > 65536) {
    return Err(Code::kInvalidArgument, "micro_batches is {}, but must be 1 to 65536",
               micro_batches);
  }
  if (lane_bits != 32 && lane_bits != 64) {
    return Err(Code::kInvalidArgument, "lane_bits is {}, but must be 32 or 64", lane_bits);
  }
  if (headroom_bits < 0 || headroom_bits > 20) {
    return Err(Code::kInvalidArgument, "headroom_bits is {}, but must be 0 to 20", headroom_bits);
  }
  if (TermBits() < kLeastTermBits) {
    return WithHint(Err(Code::kInvalidArgument,
                        "micro_batches = {} and headroom_bits = {} leave {} of {} bits for a "
                        "gradient, but at least {} are needed",
                        micro_batches, headroom_bits, TermBits(), lane_bits, kLeastTermBits),
                    "use lane_bits = 64, fewer micro-batches or less headroom");
  }
  return {};
}

int ExactOptions::TermBits() const {
  return lane_bits - 2 - CeilLog2(micro_batches) - headroom_bits;
}

int64_t ExactOptions::TermLimit() const {
  const int64_t lane_max =
      lane_bits == 32 ? std::numeric_limits<int32_t>::max() : std::numeric_limits<int64_t>::max();
  return lane_max / micro_batches;
}

int DefaultLaneBits(size_t parameters) { return parameters < (size_t{1} << 20) ? 64 : 32; }

void BlockExponents::Commit(std::span<const int16_t> observed, uint64_t step, BlockRange range) {
  Advance(observed, DecaysAfter(step), range);
}

void BlockExponents::Raise(std::span<const int16_t> observed, BlockRange range) {
  Advance(observed, false, range);
}

void BlockExponents::Advance(std::span<const int16_t> observed, bool decays, BlockRange range) {
  MUSTER_CHECK(observed.size() == exponents_.size(), "{} exponents for {} blocks", observed.size(),
               exponents_.size());
  MUSTER_CHECK(range.end <= exponents_.size(), "block {} of {}", range.end, exponents_.size());
  for (size_t b = range.begin; b < range.end; ++b) {
    exponents_[b] = exact::NextExponent(exponents_[b], observed[b], decays);
  }
}

template <typename Lane>
ExactFlags Accumulate(const BlockLayout& layout, const ExactOptions& options,
                      const BlockExponents& exponents, std::span<const float> gradient,
                      std::span<Lane> sum, std::span<int16_t> observed) {
  CheckSizes<Lane>(layout, options, exponents, sum.size(), gradient.size());
  MUSTER_CHECK(observed.size() == layout.blocks(), "{} of {}", observed.size(), layout.blocks());
  const int64_t limit = options.TermLimit();
  const int term_bits = options.TermBits();
  ExactFlags flags;
  for (size_t b = 0; b < layout.blocks(); ++b) {
    const float* values = gradient.data() + layout.begin(b);
    const size_t count = layout.begin(b + 1) - layout.begin(b);
    int32_t largest = LargestMagnitude(values, count);
    const bool finite = largest < kInfinityBits;
    if (!finite) {
      flags.non_finite = true;
      largest = LargestFiniteMagnitude(values, count);
    }
    if (largest == 0) continue;
    observed[b] = std::max(observed[b], ExponentOf(largest));
    const int16_t exponent = exponents.values()[b];
    const int scale_bits = ScaleBits(term_bits, exponent);
    if (exponent == kUnknownExponent || !Fits(largest, scale_bits, limit)) {
      flags.miss = true;
    } else if (finite) {
      AddBlock(values, count, scale_bits, sum.data() + layout.begin(b));
    }
  }
  return flags;
}

template <typename Lane>
void ToFloat(const BlockLayout& layout, const ExactOptions& options,
             const BlockExponents& exponents, std::span<const Lane> sum, double factor,
             std::span<float> out, BlockRange range) {
  CheckSizes<Lane>(layout, options, exponents, sum.size(), out.size());
  for (size_t b = range.begin; b < range.end; ++b) {
    const size_t begin = layout.begin(b);
    const int scale_bits = ScaleBits(options.TermBits(), exponents.values()[b]);
    BlockToFloat(sum.data() + begin, layout.begin(b + 1) - begin, PowerOfTwo(-scale_bits) * factor,
                 out.data() + begin);
  }
}

double SumOfSquares(const BlockLayout& layout, std::span<const float> values) {
  MUSTER_CHECK(values.size() == layout.elements(), "{} of {}", values.size(), layout.elements());
  double sum = 0;
  for (size_t b = 0; b < layout.blocks(); ++b) {
    const size_t begin = layout.begin(b);
    sum += BlockSumOfSquares(values.data() + begin, layout.begin(b + 1) - begin);
  }
  return sum;
}

template ExactFlags Accumulate<int32_t>(const BlockLayout&, const ExactOptions&,
                                        const BlockExponents&, std::span<const float>,
                                        std::span<int32_t>, std::span<int16_t>);
template ExactFlags Accumulate<int64_t>(const BlockLayout&, const ExactOptions&,
                                        const BlockExponents&, std::span<const float>,
                                        std::span<int64_t>, std::span<int16_t>);
template void ToFloat<int32_t>(const BlockLayout&, const ExactOptions&, const BlockExponents&,
                               std::span<const int32_t>, double, std::span<float>, BlockRange);
template void ToFloat<int64_t>(const BlockLayout&, const ExactOptions&, const BlockExponents&,
                               std::span<const int64_t>, double, std::span<float>, BlockRange);

}  // namespace muster
