#include "launcher/jobfile/scalars.h"

#include <charconv>

namespace muster {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 10;
constexpr std::string_view kDigits = "0123456789";

bool IsDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of(kDigits) == text.npos;
}

bool Parse(std::string_view text, int64_t& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view WithoutZeros(std::string_view text) {
  const size_t first = text.find_first_not_of('0');
  return first == text.npos ? "0" : text.substr(first);
}

// What is wrong with a text that is no plain decimal number, as the end of a sentence.
std::string WhyNoNumber(const DocumentNode& node) {
  const std::string_view text = node.text;
  int64_t hex = 0;
  if (!node.plain && IsDigits(text)) return "write it without quotes";
  if (IsDigits(text)) {  // readers of YAML disagree whether this is octal
    return fmt::format("a leading zero is not allowed: write {}", WithoutZeros(text).substr(0, 30));
  }
  if (text.starts_with("0x") && Parse(text.substr(2), hex, 16)) {
    return fmt::format("hexadecimal is not allowed: write {}", hex);
  }
  return "write decimal digits only";
}

}  // namespace

std::string Shown(const DocumentNode& node) {
  constexpr size_t kLongest = 60;
  switch (node.kind) {
    case DocumentNode::Kind::kText: {
      std::string text = node.text.substr(0, kLongest);
      while (!text.empty() && text.size() == kLongest && (text.back() & 0x80) != 0) text.pop_back();
      for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
      }
      return fmt::format("\"{}{}\"", text, node.text.size() > kLongest ? "..." : "");
    }
    case DocumentNode::Kind::kList:
      return "a list";
    case DocumentNode::Kind::kMapping:
      return "a mapping";
    default:
      return "empty";
  }
}

Result<int64_t> ReadWholeNumber(const DocumentNode& node, int64_t low, int64_t high) {
  const std::string must = fmt::format("it must be a whole number from {} to {}", low, high);
  if (node.kind != DocumentNode::Kind::kText) {
    return Err(Code::kInvalidArgument, "is {}, {}", Shown(node), must);
  }
  const bool decimal = node.plain && IsDigits(node.text) && node.text == WithoutZeros(node.text);
  int64_t value = 0;
  const bool negative = node.plain && node.text.starts_with('-') && IsDigits(node.text.substr(1));
  if (!decimal && !negative) {
    return Err(Code::kInvalidArgument, "is {}, {}; {}", Shown(node), must, WhyNoNumber(node));
  }
  if (!negative && Parse(node.text, value) && value >= low && value <= high) return value;
  return Err(Code::kInvalidArgument, "is {}, {}", node.text.substr(0, 30), must);
}

Result<bool> ReadSwitch(const DocumentNode& node) {
  if (node.kind == DocumentNode::Kind::kText && node.plain) {
    if (node.text == "true") return true;
    if (node.text == "false") return false;
  }
  return Err(Code::kInvalidArgument, "is {}, it must be true or false{}", Shown(node),
             node.kind == DocumentNode::Kind::kText && !node.plain ? ", without quotes" : "");
}

Result<std::string> ReadText(const DocumentNode& node) {
  if (node.kind == DocumentNode::Kind::kNothing) {
    return Err(Code::kInvalidArgument,
               "has no value; write \"\" for an empty text, and quotes around ~ or null");
  }
  if (node.kind != DocumentNode::Kind::kText) {
    return Err(Code::kInvalidArgument, "is {}, it must be text", Shown(node));
  }
  if (node.text.find('\0') != std::string::npos) {
    return Err(Code::kInvalidArgument, "holds a NUL character, which no program can be given");
  }
  if (node.text.size() > kMaxTextBytes) {
    return Err(Code::kInvalidArgument, "has {} bytes, at most {} are allowed", node.text.size(),
               kMaxTextBytes);
  }
  return node.text;
}

Result<WorkerRange> ReadWorkers(const DocumentNode& node, int lowest) {
  const std::string must = fmt::format(
      "it must be a number from {} to {}, or two of them as MIN:MAX", lowest, kMaxWorkers);
  if (node.kind != DocumentNode::Kind::kText) {
    return Err(Code::kInvalidArgument, "is {}, {}", Shown(node), must);
  }
  const std::string_view text = node.text;
  const size_t colon = text.find(':');
  int64_t ends[2] = {};
  for (const size_t i : {size_t{0}, size_t{1}}) {
    const std::string_view part = colon == text.npos ? text
                                  : i == 0           ? text.substr(0, colon)
                                                     : text.substr(colon + 1);
    const bool readable = IsDigits(part) && part == WithoutZeros(part) && Parse(part, ends[i]);
    if (!readable || ends[i] < (i == 0 ? lowest : 1) || ends[i] > kMaxWorkers) {
      return Err(Code::kInvalidArgument, "is {}, {}", Shown(node), must);
    }
  }
  if (ends[0] > ends[1]) {
    return Err(Code::kInvalidArgument, "is {}: the minimum is larger than the maximum",
               Shown(node));
  }
  return WorkerRange{static_cast<int>(ends[0]), static_cast<int>(ends[1])};
}

}  // namespace muster
