#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace muster::fuzz {
namespace {

// Where counts, sizes and signs have their ends.
constexpr uint64_t kNumbers[] = {0,
                                 1,
                                 2,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x100,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x10000,
                                 0x7fff'ffff,
                                 0x8000'0000,
                                 0xffff'ffff,
                                 0x7fff'ffff'ffff'ffff,
                                 0x8000'0000'0000'0000,
                                 0xffff'ffff'ffff'ffff};
constexpr const char* kDigits[] = {"0",
                                   "-1",
                                   "1",
                                   "255",
                                   "65536",
                                   "2147483647",
                                   "2147483648",
                                   "-2147483649",
                                   "4294967296",
                                   "9223372036854775807",
                                   "9223372036854775808",
                                   "18446744073709551615",
                                   "18446744073709551616",
                                   "1e400",
                                   "0.5",
                                   "null"};

bool IsDigit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// Begin and end of the first decimal number in `text` from `at` on; equal if there is none.
std::pair<size_t, size_t> NumberIn(const std::string& text, size_t at) {
  while (at < text.size() && !IsDigit(text[at])) ++at;
  size_t end = at;
  while (end < text.size() && IsDigit(text[end])) ++end;
  return {at, end};
}

}  // namespace

std::string Mutator::Next() {
  std::string input = Any();
  // One change keeps most of an input right; many take it far away.
  for (size_t changes = size_t{1} << Below(5); changes > 0; --changes) Change(input);
  if (input.size() > kMaxBytes) input.resize(kMaxBytes);
  return input;
}

std::string Mutator::Piece(const std::string& text) {
  const size_t begin = Below(text.size() + 1);
  const size_t longest = Below(4) == 0 ? text.size() : 32;
  return text.substr(begin, 1 + Below(longest + 1));
}

void Mutator::Change(std::string& input) {
  const size_t at = Below(input.size() + 1);
  const size_t end = std::min(input.size(), at + 1 + Below(16));
  const bool inside = at < input.size();
  switch (Below(11)) {
    case 0:
      if (inside) input[at] = static_cast<char>(input[at] ^ (1 << Below(8)));
      return;
    case 1:
      if (inside) input[at] = static_cast<char>(Below(256));
      return;
    case 2:
      return PutNumber(input, at);
    case 3:
      return PutDigits(input, at);
    case 4:
      input.erase(at, end - at);
      return;
    case 5:
      if (Below(4) == 0) input.resize(at);
      return;
    case 6:
      input.insert(at, Piece(input));
      return;
    case 7:
      input.insert(at, Piece(Any()));
      return;
    case 8: {
      const std::string piece = Piece(Any());
      input.replace(at, std::min(piece.size(), input.size() - at), piece);
      return;
    }
    case 9: {
      // Nesting, and whatever else is slow or recursive.
      const std::string piece = Piece(input).substr(0, 1 + Below(4));
      if (Below(8) != 0) return;
      std::string many;
      for (size_t times = size_t{1} << Below(15); times > 0; --times) many += piece;
      input.insert(at, many);
      return;
    }
    default: {
      // The beginning of this one and the end of another one.
      const std::string& other = Any();
      if (Below(4) == 0) input = input.substr(0, at) + other.substr(Below(other.size() + 1));
      return;
    }
  }
}

// Over what is there, in one of the widths that numbers have.
void Mutator::PutNumber(std::string& input, size_t at) {
  const size_t width = size_t{1} << Below(4);
  if (input.size() < width) return;
  const uint64_t number = kNumbers[Below(std::size(kNumbers))];
  std::memcpy(input.data() + std::min(at, input.size() - width), &number, width);
}

// In place of the next decimal number: one that is next to it, one from elsewhere, or one at an end.
void Mutator::PutDigits(std::string& input, size_t at) {
  const auto [begin, end] = NumberIn(input, at);
  if (begin == end) return;
  const std::string old = input.substr(begin, end - begin);
  const std::string& other = Any();
  const auto [other_begin, other_end] = NumberIn(other, Below(other.size() + 1));
  const uint64_t value = std::strtoull(old.c_str(), nullptr, 10);
  const std::string choices[] = {std::to_string(value + 1), std::to_string(value - 1),
                                 other.substr(other_begin, other_end - other_begin),
                                 kDigits[Below(std::size(kDigits))]};
  input.replace(begin, end - begin, choices[Below(std::size(choices))]);
}

}  // namespace muster::fuzz
