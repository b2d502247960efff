// What the instructions of PTX do with values (ptx.h): a value of any type lies in a register of 64 bits.
//
// Threading: pure functions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

namespace muster::ptx {

[[noreturn]] inline void Fail(const std::string& what, const std::string& text) {
  std::fprintf(stderr, "ptx: %s: %s\n", what.c_str(), text.c_str());
  std::abort();
}

template <typename T>
T FromRegister(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
uint64_t ToRegister(T value) {
  if constexpr (std::is_signed_v<T> && std::is_integral_v<T>) {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  } else {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
  }
}

// Calls `act` with a value of the type that PTX calls `name`.
template <typename Act>
auto WithType(const std::string& name, const Act& act) {
  if (name == "pred") return act(bool());
  if (name == "f32") return act(float());
  if (name == "f64") return act(double());
  if (name == "s8") return act(int8_t());
  if (name == "s16") return act(int16_t());
  if (name == "s32") return act(int32_t());
  if (name == "s64") return act(int64_t());
  if (name == "u8" || name == "b8") return act(uint8_t());
  if (name == "u16" || name == "b16") return act(uint16_t());
  if (name == "u32" || name == "b32") return act(uint32_t());
  if (name == "u64" || name == "b64") return act(uint64_t());
  Fail("no type that is known", name);
}

// An operation or a comparison of two values.
template <typename T, typename R = T>
using Pair = R (*)(T a, T b);

template <typename T>
Pair<T> OperationOf(const std::string& name) {
  if constexpr (std::is_same_v<T, bool>) {
    if (name == "and") return [](T a, T b) { return a && b; };
    if (name == "or") return [](T a, T b) { return a || b; };
    if (name == "xor") return [](T a, T b) { return a != b; };
  } else if constexpr (std::is_floating_point_v<T>) {
    if (name == "add") return [](T a, T b) { return a + b; };
    if (name == "sub") return [](T a, T b) { return a - b; };
    if (name == "mul") return [](T a, T b) { return a * b; };
    if (name == "div") return [](T a, T b) { return a / b; };
  } else {
    using U = uint64_t;  // which wraps around
    if (name == "add") return [](T a, T b) { return static_cast<T>(U(a) + U(b)); };
    if (name == "sub") return [](T a, T b) { return static_cast<T>(U(a) - U(b)); };
    if (name == "mul") return [](T a, T b) { return static_cast<T>(U(a) * U(b)); };
    if (name == "and") return [](T a, T b) { return static_cast<T>(a & b); };
    if (name == "or") return [](T a, T b) { return static_cast<T>(a | b); };
    if (name == "xor") return [](T a, T b) { return static_cast<T>(a ^ b); };
    if (name == "rem") return [](T a, T b) { return static_cast<T>(a % b); };
    if (name == "min") return [](T a, T b) { return std::min(a, b); };
    if (name == "max") return [](T a, T b) { return std::max(a, b); };
  }
  Fail("no operation that is known", name);
}

template <typename T>
Pair<T, bool> ComparisonOf(const std::string& name) {
  if constexpr (std::is_floating_point_v<T>) {  // u: or one of them is NaN
    if (name == "equ") return [](T a, T b) { return a == b || std::isunordered(a, b); };
    if (name == "neu") return [](T a, T b) { return a != b; };
    if (name == "ltu") return [](T a, T b) { return !(a >= b); };
    if (name == "leu") return [](T a, T b) { return !(a > b); };
    if (name == "gtu") return [](T a, T b) { return !(a <= b); };
    if (name == "geu") return [](T a, T b) { return !(a < b); };
    if (name == "ne") return [](T a, T b) { return a < b || a > b; };
  }
  if (name == "eq") return [](T a, T b) { return a == b; };
  if (name == "ne") return [](T a, T b) { return a != b; };
  if (name == "lt") return [](T a, T b) { return a < b; };
  if (name == "le") return [](T a, T b) { return a <= b; };
  if (name == "gt") return [](T a, T b) { return a > b; };
  if (name == "ge") return [](T a, T b) { return a >= b; };
  Fail("no comparison that is known", name);
}

// `rounding`: of rn, rni (to an integer), rzi (towards zero, to an integer), "" where nothing is rounded.
template <typename To, typename From>
To Convert(const std::string& rounding, From value) {
  if constexpr (std::is_floating_point_v<From>) {
    const From whole = rounding == "rni"   ? std::nearbyint(value)
                       : rounding == "rzi" ? std::trunc(value)
                                           : value;
    if constexpr (std::is_floating_point_v<To>) {
      return static_cast<To>(whole);
    } else {
      if (std::isnan(whole)) return 0;
      if (whole >= std::ldexp(From{1}, std::numeric_limits<To>::digits)) {
        return std::numeric_limits<To>::max();
      }
      if (whole < static_cast<From>(std::numeric_limits<To>::min())) {
        return std::numeric_limits<To>::min();
      }
      return static_cast<To>(whole);
    }
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace muster::ptx
