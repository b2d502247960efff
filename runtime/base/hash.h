// Hash: XXH3-128 (xxHash 0.8), the one checksum of pages, checkpoints and the `weights` of a run.
//
// Threading: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct XXH3_state_s;

namespace muster {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;

  // 32 lowercase hex digits, the canonical (big-endian) form that `xxhsum -H2` prints.
  std::string ToHex() const;
};

Hash128 HashBytes(std::span<const std::byte> data);

// The same hash fed piece by piece.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  void Update(std::span<const std::byte> data);
  Hash128 Digest() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace muster
