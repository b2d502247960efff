// Dice: random numbers for simulations, a function of the seed alone on every machine and library.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <vector>

namespace muster::sim {

class Dice {
 public:
  explicit Dice(uint64_t seed, uint64_t stream = 0) : state_(seed * 0x9e3779b97f4a7c15 + stream) {
    Next();
    state_ ^= stream << 32;
  }

  uint64_t Below(uint64_t limit) { return Next() % limit; }
  bool OneIn(uint64_t chances) { return Below(chances) == 0; }
  int Between(int low, int high) {
    return low + static_cast<int>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  template <typename T>
  const T& AnyOf(const std::vector<T>& all) {
    return all[Below(all.size())];
  }

 private:
  // SplitMix64 (Steele, Lea and Flood 2014).
  uint64_t Next() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  uint64_t state_;
};

}  // namespace muster::sim
