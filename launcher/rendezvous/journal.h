// Journal: what a coordinator must remember across its own death, on disk: its CoordinatorState and the port it listens on.
//
// File format, all numbers little endian:
//   file    "MUSTERJ1", then records without gaps
//   record  "MREC"        4 bytes
//           length        u32, bytes of the payload
//           checksum      u64 high, u64 low: XXH3-128 of length (as stored) and payload
//           payload       JSON: {"port": N, "state": {...} or null}
// Each record holds everything, so the last good one counts. A record that is cut short or fails its checksum is passed over: at
// the end of the file it is what a crash left of a write that nobody was told of, and the next one overwrites it.
// Above kCompactBytes the file is replaced, atomically, by one with the last record only. Space is reserved ahead, so that a disk
// that fills up does not keep a job from recovering.
//
// Threading: none; one thread at a time. Ownership: the file is flock()ed while the Journal lives; the lock goes with the process.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "launcher/rendezvous/state_store.h"
#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster {

struct JournalContent {
  int port = 0;  // 0: none yet
  std::optional<CoordinatorState> state;
};

class Journal final : public StateStore {
 public:
  static constexpr size_t kCompactBytes = 1 << 20;

  // Opens or creates the file and reads it. Errors: kFailedPrecondition when another coordinator of the job has it open;
  // kDataLoss when it is not a journal; those of the file system.
  static Result<std::unique_ptr<Journal>> Open(const std::filesystem::path& path);

  // What was in the file, or was appended last.
  const JournalContent& content() const { return content_; }

  const std::optional<CoordinatorState>& state() const override { return content_.state; }

  // Durable when they return; blocks for one disk write. On an error (disk full, ...) the journal holds what it held before
  // and may be tried again.
  Status Append(const CoordinatorState& state) override;
  Status SavePort(int port);

 private:
  explicit Journal(std::filesystem::path path) : path_(std::move(path)) {}
  Status OpenLocked();
  Status Load();
  Status Write(const JournalContent& content);
  Status Compact(const std::string& record);
  void Reserve() const;

  const std::filesystem::path path_;
  UniqueFd fd_;
  size_t end_ = 0;  // where the next record goes
  JournalContent content_;
};

}  // namespace muster
