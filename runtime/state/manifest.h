// Manifest: what a checkpoint's manifest.json says, as a pure function of its text. No I/O.
//
// The text is JSON whose last member is the XXH3-128 of all bytes before it, so a damaged manifest is refused before it is parsed.
// Format prose: docs/checkpoint-format.md.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/state/checkpoint.h"
#include "runtime/state/state.h"

namespace muster {

inline constexpr uint64_t kCheckpointFormatVersion = 1;

struct Manifest {
  CheckpointFacts facts;
  StateHeader counters;
  std::vector<TensorSpec> tensors;  // in the order of the state
  std::vector<std::string> hashes;  // XXH3-128 of each tensor's bytes, hex
  uint64_t file_bytes = 0;          // of state.safetensors
  std::string file_hash;            // XXH3-128 of it, hex
};

// Errors: kInvalidArgument (text that is not UTF-8).
Result<std::string> EncodeManifest(const Manifest& manifest);

// Errors: kDataLoss (damaged), kFailedPrecondition (another format version).
Result<Manifest> ParseManifest(std::string_view text);

// kFailedPrecondition with the first fact that differs, and both values.
Status CompareFacts(const CheckpointFacts& expected, const CheckpointFacts& found);

}  // namespace muster
