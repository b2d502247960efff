// Mutator: makes inputs from those of a corpus: a few bits, bytes, numbers or pieces of one are changed, cut out, repeated, or
// taken from another one. It knows nothing of what it finds; libFuzzer, which does, is for long runs (`make fuzz`).
//
// Threading: none. The same seed gives the same inputs on every machine.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace muster::fuzz {

class Mutator {
 public:
  static constexpr size_t kMaxBytes = 64 << 10;  // of an input

  // `corpus` outlives the mutator and is not empty.
  Mutator(uint64_t seed, const std::vector<std::string>& corpus) : random_(seed), corpus_(corpus) {}

  std::string Next();

 private:
  // Uniform below `limit`, which is at least 1. Not by a distribution of std: those differ between libraries.
  size_t Below(size_t limit) { return static_cast<size_t>(random_() % limit); }
  const std::string& Any() { return corpus_[Below(corpus_.size())]; }
  // A piece of `text`, mostly short.
  std::string Piece(const std::string& text);
  void Change(std::string& input);
  void PutNumber(std::string& input, size_t at);
  void PutDigits(std::string& input, size_t at);

  std::mt19937_64 random_;
  const std::vector<std::string>& corpus_;
};

}  // namespace muster::fuzz
