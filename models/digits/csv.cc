#include "models/digits/csv.h"

#include <algorithm>
#include <charconv>

namespace muster {
namespace {

constexpr int kPixels = 64;
constexpr int kDarkest = 16;
constexpr int kColumns = kPixels + 1;

// Where in the file something was found.
struct Place {
  std::string_view name;
  int line = 1;
  int column = 1;  // counted in values, not in characters
};

// Cuts the text before the first `separator` off `rest`; all of it if there is none.
std::string_view TakeUntil(char separator, std::string_view& rest) {
  const size_t end = rest.find(separator);
  const std::string_view head = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return head;
}

Result<int> ParseValue(std::string_view text, const Place& place) {
  const bool is_label = place.column == kColumns;
  const int most = is_label ? kDigitClasses - 1 : kDarkest;
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > most) {
    return Err(Code::kDataLoss, "{}: line {}, column {}: expected a {} from 0 to {}, found \"{}\"",
               place.name, place.line, place.column, is_label ? "label" : "pixel", most, text);
  }
  return value;
}

Status CheckColumns(std::string_view line, const Place& place) {
  const auto columns = 1 + std::ranges::count(line, ',');
  if (columns == kColumns) return {};
  return Err(Code::kDataLoss, "{}: line {}: expected {} values ({} pixels and a label), found {}",
             place.name, place.line, kColumns, kPixels, line.empty() ? 0 : columns);
}

Status ParseLine(std::string_view line, Place place, Samples& samples) {
  MUSTER_TRY(CheckColumns(line, place));
  for (; place.column <= kPixels; ++place.column) {
    MUSTER_ASSIGN(const int pixel, ParseValue(TakeUntil(',', line), place));
    samples.pixels.push_back(static_cast<float>(pixel) / kDarkest);
  }
  MUSTER_ASSIGN(const int label, ParseValue(line, place));
  samples.labels.push_back(label);
  return {};
}

}  // namespace

Result<Samples> ParseDigitsCsv(std::string_view text, std::string_view name) {
  Samples samples{.width = kPixels};
  for (Place place{.name = name}; !text.empty(); ++place.line) {
    std::string_view line = TakeUntil('\n', text);
    if (line.ends_with('\r')) line.remove_suffix(1);
    MUSTER_TRY(ParseLine(line, place, samples));
  }
  return samples;
}

}  // namespace muster
