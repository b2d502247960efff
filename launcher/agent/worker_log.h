// WorkerLog: the output of one slot's workers, in a file that cannot grow without end, and the end of it in memory.
//
// Threading: none; one thread uses it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/base/unique_fd.h"

namespace muster {

// The last lines of a text of any length, in bounded memory.
class TailBuffer {
 public:
  TailBuffer(size_t max_lines, size_t max_bytes) : max_lines_(max_lines), max_bytes_(max_bytes) {}

  void Append(std::string_view text);
  void Clear() { text_.clear(); }

  // At most max_lines lines in at most max_bytes bytes; a line that is longer loses its beginning.
  std::string Text() const;

 private:
  const size_t max_lines_;
  const size_t max_bytes_;
  std::string text_;  // at most twice max_bytes_
};

class WorkerLog {
 public:
  static constexpr uint64_t kMaxBytes = 64ULL << 20;

  // Appends to `path`. At `max_bytes` the file becomes `path`.1 (replacing the one before) and a new one begins. A file that
  // cannot be written (full disk) loses output and disturbs nobody.
  explicit WorkerLog(std::filesystem::path path, uint64_t max_bytes = kMaxBytes);

  // Appends to this process's standard output, which somebody else keeps within bounds. With a `prefix`, whole lines that begin with
  // it, so that processes can share an output; a line above kLongestLine comes in pieces.
  static constexpr size_t kLongestLine = 16 << 10;
  static WorkerLog ToStdout(const std::string& prefix = "");

  void Append(std::string_view text);

  // A line of our own, on a line of its own: "[launcher] text".
  void Note(std::string_view text);

 private:
  WorkerLog(UniqueFd fd, std::string prefix);
  void Open();
  void AppendLines(std::string_view text);
  void Write(std::string_view text);

  const std::filesystem::path path_;
  const uint64_t max_bytes_;
  const std::string prefix_;
  std::string line_;  // with a prefix: its beginning
  UniqueFd fd_;
  uint64_t size_ = 0;
  bool at_line_start_ = true;
};

}  // namespace muster
