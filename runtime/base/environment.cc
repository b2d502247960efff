#include "runtime/base/environment.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace muster {

std::vector<std::string> EnvironmentWith(const std::vector<std::string>& changes) {
  const auto name_of = [](std::string_view entry) { return entry.substr(0, entry.find('=')); };
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const bool changed = std::any_of(changes.begin(), changes.end(), [&](const std::string& c) {
      return name_of(c) == name_of(*entry);
    });
    if (!changed) result.emplace_back(*entry);
  }
  result.insert(result.end(), changes.begin(), changes.end());
  return result;
}

}  // namespace muster
