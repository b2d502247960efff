// Safetensors: the file layout of a checkpoint's arrays, as a pure function of bytes. No I/O.
//
// A file is an 8-byte little-endian header length, a JSON object that gives each tensor's type, shape and place, padded with
// spaces to 8 bytes, and the tensors' little-endian bytes one after the other. The format is Hugging Face's; what this parser
// refuses of it is in docs/checkpoint-format.md.
//
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/state/state.h"

namespace muster {

// The largest JSON header, enough for about 100,000 tensors.
inline constexpr uint64_t kMaxSafetensorsHeader = 16 << 20;
inline constexpr size_t kSafetensorsLengthBytes = 8;

// Where a tensor lies: bytes [begin, end) of the file.
struct PlacedTensor {
  TensorSpec spec;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The first bytes of a file with `tensors` in this order: length and JSON. Errors: kInvalidArgument (a name that is not UTF-8,
// or "__metadata__"), kOutOfRange (a header over the limit).
Result<std::string> EncodeSafetensorsHead(std::span<const TensorSpec> tensors);

// The length of the JSON header from the first 8 bytes of a file of `file_bytes`. Errors: kDataLoss.
Result<uint64_t> ParseSafetensorsLength(std::span<const std::byte, kSafetensorsLengthBytes> bytes,
                                        uint64_t file_bytes);

// The tensors of a file of `file_bytes` in the order in which they lie, from its JSON header. Every byte after the header belongs to
// exactly one tensor, names are unique. Errors: kDataLoss, naming the tensor and what is wrong with it.
Result<std::vector<PlacedTensor>> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t file_bytes);

// In what `found` differs from `expected`, in one sentence about the first difference, or nothing. Order does not count.
std::optional<std::string> FirstDifference(std::span<const TensorSpec> expected,
                                           std::span<const TensorSpec> found);

}  // namespace muster
