// Whether a function of a library that Muster loads is declared as in the header of those who make it.
#pragma once

#include <gtest/gtest.h>

#include <type_traits>

#include "runtime/base/shared_library.h"

namespace muster {

// We have int where they have an enumeration, and structures of our own where those grow with the version.
template <typename Theirs, typename Ours>
constexpr bool FitsArgument() {
  if constexpr (std::is_same_v<Theirs, Ours>) {
    return true;
  } else if constexpr (std::is_pointer_v<Theirs> && std::is_pointer_v<Ours>) {
    using To = std::remove_pointer_t<Theirs>;
    using Us = std::remove_pointer_t<Ours>;
    return std::is_const_v<To> == std::is_const_v<Us> &&
           FitsArgument<std::remove_const_t<To>, std::remove_const_t<Us>>();
  } else if constexpr (std::is_class_v<Theirs>) {
    return std::is_class_v<Ours>;
  } else {
    return std::is_enum_v<Theirs> && std::is_integral_v<Ours> && sizeof(Theirs) == sizeof(Ours);
  }
}

template <typename R, typename... Theirs, typename... Ours>
void CompareFunctions(R (*)(Theirs...), const LibraryFunction<Ours...>& ours, const char* symbol) {
  EXPECT_STREQ(ours.symbol, symbol);
  if constexpr (sizeof...(Theirs) == sizeof...(Ours)) {
    EXPECT_TRUE((FitsArgument<Theirs, Ours>() && ...)) << symbol << " takes other arguments";
  } else {
    ADD_FAILURE() << symbol << " takes " << sizeof...(Theirs) << " arguments";
  }
}

// NVIDIA's headers rename functions to their newest version, before the name becomes a text.
#define MUSTER_TEXT_OF(name) #name
#define MUSTER_COMPARE(ours, theirs) \
  ::muster::CompareFunctions(static_cast<decltype(&theirs)>(nullptr), ours, MUSTER_TEXT_OF(theirs))

}  // namespace muster
