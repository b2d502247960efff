// Checkpoint: the state of one step in a folder, in the safetensors layout with a manifest of ours.
//
//   DIR/step-000000000120/state.safetensors   8-byte little-endian header length, JSON header, tensor bytes
//   DIR/step-000000000120/manifest.json       format version, job facts, step, counters, size and XXH3-128 of the file and of each tensor
//
// A checkpoint is written into a folder with a temporary name, every file and folder fsynced, then renamed: it is there
// whole or not at all. Loading verifies everything (sizes, names, types, shapes, hashes) before any of it is used.
// File format prose: docs/checkpoint-format.md.
//
// Threading: free functions are safe on different folders; CheckpointWriter has its own thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/state/state.h"

namespace muster {

// Facts of the run that must agree for a resume to give the same bits.
struct CheckpointFacts {
  uint64_t seed = 0;
  int64_t micro_batches = 0;  // V
  int64_t batch_size = 0;     // samples per micro-batch
  int64_t dataset_size = 0;
  std::string reduce;     // "float", or "exact" with its lanes and headroom, as one line
  std::string optimizer;  // its name and hyper-parameters, and the clipping norm, as one line
};

struct CheckpointEntry {
  std::filesystem::path folder;
  uint64_t step = 0;
};

// Complete checkpoints in `directory`, newest first, by their names only (nothing is verified). A missing directory is empty; so
// is one that cannot be read, with a warning in the log.
std::vector<CheckpointEntry> ListCheckpoints(const std::filesystem::path& directory);

// Writes `state` as of its step(). Leaves nothing behind on failure. A checkpoint of the same step is replaced. Keeps the
// newest `keep` (at least 1) up to this step; later ones, which a run that is at this step has refused, stay.
// One writer at a time for a directory; what dead ones have left is removed. Blocks until everything is on the disk.
// Errors: kResourceExhausted (disk full), kPermissionDenied, each with the path; kFailedPrecondition (pages at different
// steps), kInvalidArgument (names or facts that are not UTF-8), kOutOfRange (too many tensors), kUnavailable (two writers).
Status WriteCheckpoint(const std::filesystem::path& directory, const State& state,
                       const CheckpointFacts& facts, int keep = 3);

// Loads one checkpoint into `state`, which already has the tensors that the program declares; `state` is untouched on error.
// Spans of its image stay valid. Needs the memory of the state a second time.
// Errors: kDataLoss (damaged: names file and reason), kFailedPrecondition (other model, facts or format version: names the
// first difference and both values), kNotFound, kPermissionDenied.
Status LoadCheckpoint(const std::filesystem::path& folder, const CheckpointFacts& facts,
                      State& state);

struct LoadedCheckpoint {
  CheckpointEntry entry;
  std::vector<std::string> refused;  // newer ones that were damaged, each with file and reason
};

// Loads the newest valid checkpoint of `directory`; a damaged one is refused with its reason and the one before is tried.
// Errors: kNotFound (no checkpoint at all), kDataLoss (all damaged); kFailedPrecondition and kPermissionDenied as LoadCheckpoint,
// never skipped over.
Result<LoadedCheckpoint> LoadNewestCheckpoint(const std::filesystem::path& directory,
                                              const CheckpointFacts& facts, State& state);

// Writes checkpoints in the background, at most one at a time. Submit begins a copy of the state, which another thread makes while
// the trainer computes; before the state changes, EndCopy lends a hand with what is left of it (decision 0012). A failure is
// logged, counted and told to `on_done`, and never stops training. Prepare, Submit and EndCopy belong to the trainer's thread.
class CheckpointWriter {
 public:
  // `on_done(step, status)`, if not empty, is called from the writer's thread after each attempt, before the next Submit can
  // succeed. It must not call Flush.
  CheckpointWriter(std::filesystem::path directory, CheckpointFacts facts, int keep,
                   std::function<void(uint64_t step, const Status&)> on_done);
  ~CheckpointWriter();  // waits for a write that is under way

  // Gets the memory for copies of `state` ahead of the first one, in the background.
  void Prepare(const State& state);
  // Returns false, and writes nothing, while the previous one is still being written. Else `state` stays as it is until EndCopy()
  // or Flush() has returned.
  bool Submit(const State& state);
  // Returns when nothing is read from the state any more.
  void EndCopy();
  // Waits until nothing is being written and `on_done` has returned, at most until `deadline`; returns the status of the last
  // write, no error if there was none. Errors: kDeadlineExceeded, and those of WriteCheckpoint.
  Status Flush(TimePoint deadline);
  // Writes that have failed.
  uint64_t failures() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
