// Chunk: a piece of a file on its way to a cluster: named by the SHA-256 of its bytes, compressed with zstd, and checked where it arrives.
//
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace muster {

inline constexpr size_t kMaxChunkBytes =
    size_t{2} << 20;  // of a file; its compressed form fits into one message of gRPC

// The most bytes that a compressed chunk may have: what cannot be compressed grows a little.
inline constexpr size_t kMaxCompressedBytes = kMaxChunkBytes + (size_t{32} << 10);

// SHA-256 as 64 lowercase hex digits.
std::string Sha256(std::string_view data);
// Whether `text` looks like one.
bool IsSha256(std::string_view text);

// `raw` has at most kMaxChunkBytes bytes.
std::string CompressChunk(std::string_view raw);

// The bytes of the chunk `hash`. Never takes more memory than a chunk may. Errors: kDataLoss (not compressed by zstd, too large, or
// other bytes than those that the hash names).
Result<std::string> DecompressChunk(std::string_view hash, std::string_view compressed);

}  // namespace muster
