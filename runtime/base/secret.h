// Secret: how a secret that a caller shows is compared with the one that is expected.
//
// Threading: pure functions.
#pragma once

#include <string_view>

namespace muster {

// Takes the same time wherever the texts differ, so that nobody can guess one character after the other.
inline bool SameSecret(std::string_view given, std::string_view expected) {
  if (given.size() != expected.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i] ^ expected[i]);
  return difference == 0;
}

}  // namespace muster
