#include "runtime/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "runtime/base/unique_fd.h"

namespace muster {

namespace {

std::string TemporarySuffix(pid_t writer) { return fmt::format(".tmp.{}", writer); }

}  // namespace

Result<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, fmt::format("cannot open {}", path.string()));
  std::string content;
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, fmt::format("cannot read {}", path.string()));
    if (got == 0) return content;
    if (content.size() + static_cast<size_t>(got) > max_bytes) {
      return Err(Code::kResourceExhausted, "{} is larger than {} bytes", path.string(), max_bytes);
    }
    content.append(buffer, static_cast<size_t>(got));
  }
}

Status WriteAll(int fd, std::span<const std::byte> data, std::string_view what) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, fmt::format("cannot write {}", what));
    data = data.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status MakeFolder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return {};
  return ErrnoError(error.value(), fmt::format("cannot make the folder {}", path.string()));
}

Status SyncFolder(const std::filesystem::path& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    return ErrnoError(errno, fmt::format("cannot sync folder {}", folder.string()));
  }
  return {};
}

void RemoveHalfWritten(const std::filesystem::path& folder, pid_t writer) {
  std::error_code error;
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().string().ends_with(TemporarySuffix(writer))) left.push_back(entry.path());
  }
  for (const std::filesystem::path& path : left) std::filesystem::remove(path, error);
}

Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content,
                           bool durable, unsigned mode) {
  const std::string temporary = path.string() + TemporarySuffix(::getpid());
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return ErrnoError(errno, fmt::format("cannot create {}", temporary));
  Status written = WriteAll(fd.get(), std::as_bytes(std::span(content)), temporary);
  if (written && durable && ::fsync(fd.get()) != 0) {
    written = ErrnoError(errno, fmt::format("cannot sync {}", temporary));
  }
  fd.reset();
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) {
    written = ErrnoError(errno, fmt::format("cannot rename {} to {}", temporary, path.string()));
  }
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  return durable ? SyncFolder(path.parent_path()) : Status{};
}

}  // namespace muster
