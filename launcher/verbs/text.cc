#include "launcher/verbs/text.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "launcher/job/job.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

bool ReadNumber(std::string_view text, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// A name for the error message: a megabyte of argument is not repeated.
std::string Shortened(const std::string& text) {
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

}  // namespace

Result<WorkerRange> ParseWorkers(std::string_view what, const std::string& text) {
  const size_t colon = text.find(':');
  const std::string_view view = text;
  int64_t min = 0;
  int64_t max = 0;
  const bool readable = ReadNumber(view.substr(0, colon), min) &&
                        ReadNumber(colon == text.npos ? view : view.substr(colon + 1), max);
  if (!readable || min < 1 || max < 1 || min > kMaxWorkers || max > kMaxWorkers) {
    return Err(Code::kInvalidArgument,
               "{} is \"{}\", it must be a number from 1 to {}, or two of them as MIN:MAX", what,
               Shortened(text), kMaxWorkers);
  }
  if (min > max) {
    return Err(Code::kInvalidArgument, "{} is \"{}\": the minimum is larger than the maximum", what,
               Shortened(text));
  }
  return WorkerRange{static_cast<int>(min), static_cast<int>(max)};
}

Result<int64_t> ParseNumber(std::string_view what, const std::string& text, int64_t low,
                            int64_t high) {
  int64_t value = 0;
  if (ReadNumber(text, value) && value >= low && value <= high) return value;
  return Err(Code::kInvalidArgument, "{} is \"{}\", it must be a whole number from {} to {}", what,
             Shortened(text), low, high);
}

std::vector<std::string> SplitCommas(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Result<std::vector<int>> ParseNumberList(std::string_view what, const std::string& text) {
  std::vector<int> numbers;
  for (const std::string& part : SplitCommas(text)) {
    MUSTER_ASSIGN(const int64_t number, ParseNumber(what, part, 0, kMaxWorkers - 1));
    numbers.push_back(static_cast<int>(number));
  }
  if (numbers.empty()) return Err(Code::kInvalidArgument, "{} is empty; example: 0,3", what);
  return numbers;
}

std::string NameFor(const std::string& program, const std::string& suffix) {
  constexpr size_t kLongest = 40;
  std::string name;
  const std::string file = std::filesystem::path(program).filename().string();
  for (const char c : file) {
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (plain) name += lower;
    if (!plain && !name.empty() && name.back() != '-') name += '-';
  }
  name.resize(std::min(name.size(), kLongest));
  while (!name.empty() && name.back() == '-') name.pop_back();
  return fmt::format("{}-{}", name.empty() ? "job" : name, suffix);
}

std::string ShellQuote(const std::vector<std::string>& words) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kSafe) == word.npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

std::string WorkersText(int min, int max) {
  if (min < max) return fmt::format("{} to {} workers", min, max);
  return fmt::format("{} worker{}", max, max == 1 ? "" : "s");
}

std::string DurationText(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto total = static_cast<int64_t>(std::min(seconds, 1e12));
  const int64_t days = total / 86400;
  const int64_t hours = total / 3600 % 24;
  if (days > 0) return fmt::format("{}d {:02}h", days, hours);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

bool Print(std::string_view text) {
  return WriteAll(STDOUT_FILENO, std::as_bytes(std::span(text)), "stdout").has_value();
}

void PrintError(std::string_view text) {
  const Status ignored = WriteAll(STDERR_FILENO, std::as_bytes(std::span(text)), "stderr");
  (void)ignored;
}

}  // namespace muster
