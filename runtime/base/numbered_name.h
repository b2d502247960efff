// NumberedName: a name that ends in a number, as workers ("w-12", "gpu-0-3") and pods ("train-gpu-7") have it.
//
// Threading: pure functions. Ownership: a stem is part of the name that it was read from.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace muster {

struct NumberedName {
  std::string_view stem;  // "w-" of "w-12"
  int64_t number = 0;     // not negative

  auto operator<=>(const NumberedName&) const = default;

  // Nothing if what follows the last dash is no such number.
  static std::optional<NumberedName> Parse(std::string_view name) {
    const size_t begin = name.rfind('-') + 1;  // 0 if there is none
    int64_t number = 0;
    const char* const last = name.data() + name.size();
    const auto [end, error] = std::from_chars(name.data() + begin, last, number);
    if (begin == 0 || error != std::errc() || end != last) return std::nullopt;
    return NumberedName{name.substr(0, begin), number};
  }
};

}  // namespace muster
