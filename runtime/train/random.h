// Random: counter-based random numbers (Philox 4x32-10, Salmon et al., SC'11). A stream is a function of its key, so that
// any worker can produce the numbers of any step and micro-batch.
//
// Threading: a plain value.
#pragma once

#include <array>
#include <cstdint>

namespace muster {

// The bijection behind Random: 128 random bits for every (counter, key), words least significant first. Known-answer
// vectors: Random123, kat_vectors.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

class Random {
 public:
  // Independent streams for different (seed, stream, substream); for one seed, no two of them ever share a block. Each
  // holds 2^66 numbers.
  explicit Random(uint64_t seed, uint64_t stream = 0, uint64_t substream = 0);
  Random() : Random(0) {}  // so that a struct with a Random may be initialised without it

  uint32_t Next();  // 32 random bits
  float Uniform();  // in [0, 1), 24 bits
  float Uniform(float low, float high);
  float Normal();                  // mean 0, deviation 1 (Box-Muller in double)
  uint64_t Below(uint64_t bound);  // in [0, bound), bound > 0, unbiased

 private:
  void Refill();
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace muster
