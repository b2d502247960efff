#include "runtime/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace muster {

std::string Hash128::ToHex() const { return fmt::format("{:016x}{:016x}", high, low); }

Hash128 HashBytes(std::span<const std::byte> data) {
  const XXH128_hash_t hash = XXH3_128bits(data.data(), data.size());
  return {hash.high64, hash.low64};
}

Hasher::Hasher() : state_(XXH3_createState()) { XXH3_128bits_reset(state_.get()); }
Hasher::~Hasher() = default;
void Hasher::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

void Hasher::Update(std::span<const std::byte> data) {
  XXH3_128bits_update(state_.get(), data.data(), data.size());
}

Hash128 Hasher::Digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return {hash.high64, hash.low64};
}

}  // namespace muster
