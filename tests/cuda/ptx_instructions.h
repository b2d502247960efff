// What single instructions of PTX do (ptx.h), from the values that they take to the register that they write.
//
// Threading: pure functions.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>

#include "tests/cuda/ptx.h"
#include "tests/cuda/ptx_values.h"

namespace muster::ptx {

using Source = std::function<uint64_t(const Thread&)>;
using Act = std::function<void(Thread&)>;

// Of one value; shifts have the distance beside it.
template <typename T>
Act One(const std::string& work, size_t to, const Source& first, const Source& distance,
        const std::string& text) {
  const auto make = [to, first](auto change) -> Act {
    return [=](Thread& t) {
      t.registers[to] = ToRegister<T>(static_cast<T>(change(FromRegister<T>(first(t)))));
    };
  };
  if constexpr (std::is_same_v<T, bool>) {
    if (work == "not") return make([](bool a) { return !a; });
  } else if constexpr (std::is_floating_point_v<T>) {
    if (work == "sqrt") return make([](T a) { return std::sqrt(a); });
    if (work == "neg") return make([](T a) { return -a; });
    if (work == "abs") return make([](T a) { return std::fabs(a); });
  } else {
    if (work == "not") return make([](T a) { return ~a; });
    if (work == "neg") return make([](T a) { return uint64_t{0} - static_cast<uint64_t>(a); });
  }
  if constexpr (std::is_integral_v<T>) {
    if (work == "shl" || work == "shr") {
      return [=, left = work == "shl"](Thread& t) {
        const auto bits = static_cast<uint32_t>(distance(t));
        const T value = FromRegister<T>(first(t));
        if (bits >= 8 * sizeof(T)) Fail("a shift by too much", text);
        t.registers[to] = ToRegister<T>(static_cast<T>(left ? value << bits : value >> bits));
      };
    }
  }
  Fail("not known", text);
}

// a x b + c, in one rounding or by integers that wrap around.
template <typename T>
Act ProductAndSum(size_t to, const Source& a, const Source& b, const Source& c,
                  const std::string& text) {
  if constexpr (std::is_same_v<T, double>) {
    return [=](Thread& t) {
      t.registers[to] =
          ToRegister(std::fma(FromRegister<T>(a(t)), FromRegister<T>(b(t)), FromRegister<T>(c(t))));
    };
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    return [=](Thread& t) { t.registers[to] = ToRegister(static_cast<T>(a(t) * b(t) + c(t))); };
  }
  Fail("not known", text);
}

// The first 20 bits of a reciprocal's fraction: where divisions and logarithms of doubles begin.
inline Act Reciprocal(size_t to, const Source& of) {
  constexpr uint64_t kKept = ~((uint64_t{1} << 32) - 1);
  return [=](Thread& t) { t.registers[to] = ToRegister(1 / FromRegister<double>(of(t))) & kKept; };
}

// The two halves of 64 bits, or what has these halves.
inline Act Halves(bool packs, const std::array<size_t, 3>& of) {
  if (packs) {
    return [of](Thread& t) {
      t.registers[of[0]] = FromRegister<uint32_t>(t.registers[of[1]]) | t.registers[of[2]] << 32;
    };
  }
  return [of](Thread& t) {
    t.registers[of[0]] = FromRegister<uint32_t>(t.registers[of[2]]);
    t.registers[of[1]] = t.registers[of[2]] >> 32;
  };
}

inline Act WideProduct(const std::string& type, size_t to, const Source& first,
                       const Source& second) {
  if (type == "u32") {
    return [=](Thread& t) {
      t.registers[to] =
          uint64_t{FromRegister<uint32_t>(first(t))} * FromRegister<uint32_t>(second(t));
    };
  }
  if (type != "s32") Fail("no product that is known", type);
  return [=](Thread& t) {
    t.registers[to] =
        ToRegister(int64_t{FromRegister<int32_t>(first(t))} * FromRegister<int32_t>(second(t)));
  };
}

}  // namespace muster::ptx
