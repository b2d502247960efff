// Listed: many names in a sentence.
//
// Threading: pure.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

namespace muster {

// "w-0, w-1, w-2": eight at most, then how many there are more.
inline std::string Listed(std::vector<std::string> names) {
  constexpr size_t kAtMost = 8;
  const size_t more = names.size() > kAtMost ? names.size() - kAtMost : 0;
  names.resize(names.size() - more);
  if (more > 0) names.push_back(fmt::format("{} more", more));
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace muster
