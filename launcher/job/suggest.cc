#include "launcher/job/suggest.h"

#include <algorithm>
#include <utility>

namespace muster {

int EditDistance(std::string_view a, std::string_view b) {
  // Rows of the usual table; `two_back` is for swapped neighbours.
  std::vector<int> two_back;
  std::vector<int> last(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    std::vector<int> row(b.size() + 1);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], two_back[j - 2] + 1);
    }
    two_back = std::exchange(last, std::move(row));
  }
  return last[b.size()];
}

std::optional<std::string> Nearest(std::string_view typed, const std::vector<std::string>& words) {
  // One mistake in three letters; longer inputs are not looked at, they are no typo of anything.
  constexpr size_t kLongest = 128;
  if (typed.size() > kLongest) return std::nullopt;
  std::optional<std::string> best;
  int best_distance = static_cast<int>(typed.size()) / 3 + 1;
  for (const std::string& word : words) {
    if (word.size() > kLongest || word == typed) continue;
    const int distance = EditDistance(typed, word);
    const bool extends = typed.size() >= 3 && word.starts_with(typed);
    if (distance < best_distance || (distance == best_distance && !best) || (extends && !best)) {
      best = word;
      best_distance = std::min(distance, best_distance);
    }
  }
  return best;
}

}  // namespace muster
