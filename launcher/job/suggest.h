// Suggest: the word that somebody probably meant.
//
// Threading: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

// How many letters must be put in, left out, replaced or swapped with their neighbour to make `a` into `b`.
int EditDistance(std::string_view a, std::string_view b);

// The nearest of `words`, unless it is too far from `typed` to be what was meant.
std::optional<std::string> Nearest(std::string_view typed, const std::vector<std::string>& words);

}  // namespace muster
