// The arithmetic of exact reduction on a single value, the same for CPU loops and GPU kernels; exact.h has the rules. Every operation
// is exact or correctly rounded, so all of them give the same bits.
//
// Threading: pure functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "runtime/base/host_device.h"

namespace muster {

inline constexpr size_t kBlockSize = 1024;

// An exponent that no gradient has produced yet: every non-zero gradient misses, and the first step
// is redone with the exponents that it showed.
inline constexpr int16_t kUnknownExponent = INT16_MIN;

// The exponents that a float can show: its smallest denormal is below 2^-148, its largest value
// below 2^128.
inline constexpr int16_t kMinExponent = -148;
inline constexpr int16_t kMaxExponent = 128;

// An old exponent loses one bit every so many steps.
inline constexpr uint64_t kDecaySteps = 16;

namespace exact {

inline constexpr int32_t kInfinityBits = 0x7f800000;

// The bit pattern without its sign: for floats that is the order of magnitude, NaN above infinity above all others.
MUSTER_HOST_DEVICE int32_t Magnitude(float value) {
  return std::bit_cast<int32_t>(value) & 0x7fffffff;
}

// The smallest e with |g| < 2^e, g given by its magnitude; g is finite and not 0.
MUSTER_HOST_DEVICE int16_t ExponentOf(int32_t magnitude) {
  const int biased = magnitude >> 23;
  if (biased > 0) return static_cast<int16_t>(biased - 126);
  // A denormal counts in 2^-149. That count is a float without rounding, whose exponent is wanted.
  const int of_count = std::bit_cast<int32_t>(static_cast<float>(magnitude)) >> 23;
  return static_cast<int16_t>(of_count - 126 - 149);
}

// 2^power as a double, -1022 <= power <= 1023.
MUSTER_HOST_DEVICE double PowerOfTwo(int power) {
  return std::bit_cast<double>(static_cast<uint64_t>(power + 1023) << 52);
}

// p of a block whose terms have `term_bits` bits and whose exponent is known. Clamping keeps 2^p and 2^-p normal doubles whatever
// `exponent` is.
MUSTER_HOST_DEVICE int ScaleBits(int term_bits, int16_t exponent) {
  const int clamped = exponent < kMinExponent   ? kMinExponent
                      : exponent > kMaxExponent ? kMaxExponent
                                                : exponent;
  return term_bits - clamped;
}

// Whether a value fits a term. Rounding is monotonic, so a block fits exactly when its largest magnitude does.
MUSTER_HOST_DEVICE bool Fits(int32_t magnitude, int scale_bits, int64_t limit) {
  const double scaled =
      static_cast<double>(std::bit_cast<float>(magnitude)) * PowerOfTwo(scale_bits);
  const double rounded = std::nearbyint(scaled);
  return rounded < 0x1p63 && static_cast<int64_t>(rounded) <= limit;
}

// value x 2^scale_bits as a term of a lane, which it fits.
template <typename Lane>
MUSTER_HOST_DEVICE Lane Term(float value, int scale_bits) {
  if (sizeof(Lane) == 4 && scale_bits >= -126 && scale_bits <= 127) {
    return static_cast<Lane>(std::nearbyint(value * static_cast<float>(PowerOfTwo(scale_bits))));
  }
  return static_cast<Lane>(std::nearbyint(static_cast<double>(value) * PowerOfTwo(scale_bits)));
}

// Unsigned, because the sum of a step that missed is meaningless and may wrap around.
template <typename Lane>
MUSTER_HOST_DEVICE Lane WrappingAdd(Lane a, Lane b) {
  using Unsigned = std::make_unsigned_t<Lane>;
  return static_cast<Lane>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
}

// Element i of a block goes to partial sum i mod kPartials of its squares; these are added pairwise.
inline constexpr size_t kPartials = 8;
MUSTER_HOST_DEVICE double SumOfPartials(const double* partials) {
  return ((partials[0] + partials[1]) + (partials[2] + partials[3])) +
         ((partials[4] + partials[5]) + (partials[6] + partials[7]));
}

// sum x scale as a float; beyond the largest one it becomes that.
MUSTER_HOST_DEVICE float ToFloat(double sum, double scale) {
  constexpr double kLargestFloat = std::numeric_limits<float>::max();
  const double value = sum * scale;
  return static_cast<float>(value > kLargestFloat    ? kLargestFloat
                            : value < -kLargestFloat ? -kLargestFloat
                                                     : value);
}

// The exponent of a block after a committed step that showed `observed`; every kDecaySteps-th step it first loses a bit.
MUSTER_HOST_DEVICE int16_t NextExponent(int16_t exponent, int16_t observed, bool decays) {
  if (decays && exponent > kMinExponent) --exponent;
  return exponent > observed ? exponent : observed;
}

}  // namespace exact
}  // namespace muster
