#include "launcher/agent/worker_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

namespace muster {

void TailBuffer::Append(std::string_view text) {
  if (text.size() > max_bytes_) text.remove_prefix(text.size() - max_bytes_);
  text_ += text;
  if (text_.size() > 2 * max_bytes_) text_.erase(0, text_.size() - max_bytes_);
}

std::string TailBuffer::Text() const {
  size_t begin = text_.size() > max_bytes_ ? text_.size() - max_bytes_ : 0;
  size_t at = text_.size();
  if (at > 0 && text_[at - 1] == '\n') --at;  // ends the last line, begins none
  for (size_t lines = 0; at > begin; --at) {
    if (text_[at - 1] == '\n' && ++lines == max_lines_) begin = at;
  }
  return text_.substr(begin);
}

WorkerLog::WorkerLog(std::filesystem::path path, uint64_t max_bytes)
    : path_(std::move(path)), max_bytes_(max_bytes) {
  Open();
}

WorkerLog::WorkerLog(UniqueFd fd, std::string prefix)
    : max_bytes_(std::numeric_limits<uint64_t>::max()),
      prefix_(std::move(prefix)),
      fd_(std::move(fd)) {}

WorkerLog WorkerLog::ToStdout(const std::string& prefix) {
  return WorkerLog(UniqueFd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)), prefix);
}

void WorkerLog::Open() {
  fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  struct stat facts;
  size_ = fd_ && ::fstat(fd_.get(), &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
}

void WorkerLog::Append(std::string_view text) {
  if (text.empty()) return;
  if (text.size() > max_bytes_ - size_ && size_ > 0) {
    ::rename(path_.c_str(), (path_.string() + ".1").c_str());
    Open();
  }
  at_line_start_ = text.back() == '\n';
  if (prefix_.empty()) return Write(text);
  AppendLines(text);
}

// A write to a pipe is not cut into by others as long as it is short, and lines are.
void WorkerLog::AppendLines(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    line_ += text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (end == text.npos && line_.size() < kLongestLine) return;
    Write(prefix_ + std::exchange(line_, {}) + "\n");
  }
}

void WorkerLog::Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd_.get(), text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    size_ += static_cast<uint64_t>(put);
    text.remove_prefix(static_cast<size_t>(put));
  }
}

void WorkerLog::Note(std::string_view text) {
  Append(fmt::format("{}[launcher] {}\n", at_line_start_ ? "" : "\n", text));
}

}  // namespace muster
