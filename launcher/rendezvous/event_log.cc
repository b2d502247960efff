#include "launcher/rendezvous/event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

// A line with two full member lists and a long message is far shorter than this.
constexpr std::streamoff kTailBytes = 4 << 20;

// The last part of a file; empty if it cannot be read.
std::string ReadTail(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : 0;
  std::string tail(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
  file.seekg(size - static_cast<std::streamoff>(tail.size()));
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  return tail;
}

// The number of the last event among whole lines; 0 if there is none.
uint64_t LastSequence(std::string_view lines) {
  uint64_t last = 0;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    if (end == lines.npos) break;
    last = std::max(last, EventSequence(lines.substr(0, end)));
    lines.remove_prefix(end + 1);
  }
  return last;
}

void ReadLines(std::ifstream& file, uint64_t& from, size_t limit, std::vector<std::string>& lines) {
  for (std::string line; lines.size() < limit && std::getline(file, line);) {
    // The very last line may still be in the making.
    const uint64_t sequence = file.eof() || line.empty() ? 0 : EventSequence(line);
    if (sequence < from || sequence == 0) continue;
    from = sequence + 1;
    lines.push_back(std::move(line));
  }
}

}  // namespace

EventLog::EventLog(std::filesystem::path path, uint64_t first, size_t rotate_bytes)
    : path_(std::move(path)), rotate_bytes_(rotate_bytes) {
  MutexLock lock(mutex_);
  const std::string tail = ReadTail(path_);
  const size_t torn = tail.size() - (tail.rfind('\n') + 1);  // npos + 1 is 0
  std::error_code no_file;
  bytes_ = std::filesystem::file_size(path_, no_file);
  if (no_file) bytes_ = 0;
  bytes_ -= torn;
  if (torn > 0) std::filesystem::resize_file(path_, bytes_, no_file);
  const uint64_t last = std::max(LastSequence(tail), LastSequence(ReadTail(older())));
  next_sequence_ = std::max(last + 1, first);
  Open();
}

void EventLog::Open() {
  fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
}

uint64_t EventLog::Append(const EmitEvent& event, WallTime time) {
  uint64_t sequence = 0;
  std::optional<std::string> news;
  {
    MutexLock lock(mutex_);
    sequence = next_sequence_++;
    newest_.push_back(EventJson(sequence, time, event));
    if (newest_.size() > kInMemory) newest_.pop_front();
    news = Write(newest_.back() + "\n");
  }
  if (news) log::warn("event_log={} {}", path_.string(), *news);
  return sequence;
}

std::optional<std::string> EventLog::Write(const std::string& line) {
  if (bytes_ >= rotate_bytes_ && ::rename(path_.c_str(), older().c_str()) == 0) {
    bytes_ = 0;
    fd_.reset();
  }
  if (!fd_) Open();
  const Status written = WriteAll(fd_.get(), std::as_bytes(std::span(line)), path_.string());
  if (written) bytes_ += line.size();
  // Half a line goes again.
  if (!written && fd_ && ::ftruncate(fd_.get(), static_cast<off_t>(bytes_)) != 0) fd_.reset();
  if (written.has_value() == file_works_) return std::nullopt;
  file_works_ = written.has_value();
  return file_works_ ? "state=works-again"
                     : fmt::format("state=not-written reason=\"{}\"", written.error().message);
}

std::vector<std::string> EventLog::Read(uint64_t from, size_t limit) const {
  std::vector<std::string> lines;
  from = std::max<uint64_t>(from, 1);
  uint64_t in_memory = 0;
  {
    MutexLock lock(mutex_);
    in_memory = next_sequence_ - newest_.size();
    for (uint64_t at = from; at >= in_memory && at < next_sequence_ && lines.size() < limit; ++at) {
      lines.push_back(newest_[at - in_memory]);
    }
    if (from >= in_memory) return lines;
  }
  // Opened in this order, a rotation in between shows a line twice rather than never.
  std::ifstream current(path_, std::ios::binary);
  std::ifstream old(older(), std::ios::binary);
  ReadLines(old, from, limit, lines);
  ReadLines(current, from, limit, lines);
  if (!lines.empty()) return lines;
  return Read(in_memory, limit);
}

uint64_t EventLog::next_sequence() const {
  MutexLock lock(mutex_);
  return next_sequence_;
}

}  // namespace muster
