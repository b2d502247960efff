// EventLog: the events of a job, numbered upwards, kept in events.jsonl (one JSON object a line) and, the newest, in memory.
//
// The file goes on across restarts of the coordinator; a last line that a crash has cut short is removed. It is bounded: above
// kRotateBytes it becomes events.jsonl.1, in place of the one before, and a new one begins. A disk that is full costs the lines
// that do not fit, in the file only, and one warning; nobody waits for it.
//
// Threading: safe from any thread. Append does one write to the file's page cache; Read may read both files.
#pragma once

#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/rendezvous/coordinator.h"
#include "launcher/rendezvous/status_json.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/base/unique_fd.h"

namespace muster {

class EventLog {
 public:
  static constexpr size_t kRotateBytes = 32 << 20;
  static constexpr size_t kInMemory = 4'096;

  // Continues the file at `path`, or begins it, with numbers from `first` on. Cannot fail: without a file, events live in memory.
  explicit EventLog(std::filesystem::path path, uint64_t first = 1,
                    size_t rotate_bytes = kRotateBytes);

  // Stores an event; returns its number.
  uint64_t Append(const EmitEvent& event, WallTime time) EXCLUDES(mutex_);

  // At most `limit` lines from number `from` on, without line breaks, in order. Numbers that neither memory nor file hold any
  // more are left out.
  std::vector<std::string> Read(uint64_t from, size_t limit) const EXCLUDES(mutex_);

  // The number that the next event will get.
  uint64_t next_sequence() const EXCLUDES(mutex_);

 private:
  void Open() REQUIRES(mutex_);
  // What to log if the file has stopped or begun to work.
  std::optional<std::string> Write(const std::string& line) REQUIRES(mutex_);
  std::filesystem::path older() const { return path_.string() + ".1"; }

  const std::filesystem::path path_;
  const size_t rotate_bytes_;
  mutable Mutex mutex_;
  UniqueFd fd_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;  // of good lines in the file
  bool file_works_ GUARDED_BY(mutex_) = true;
  uint64_t next_sequence_ GUARDED_BY(mutex_);
  std::deque<std::string> newest_ GUARDED_BY(mutex_);  // ends with next_sequence_ - 1
};

}  // namespace muster
