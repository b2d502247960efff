#include "runtime/state/checkpoint_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "runtime/base/failpoint.h"

namespace muster {

tl::unexpected<Error> StorageError(int errno_value, std::string_view action,
                                   const std::filesystem::path& path) {
  auto error = ErrnoError(errno_value, fmt::format("cannot {} {}", action, path.string()));
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      error.value().code = Code::kResourceExhausted;
      error.value().hint = "free space there, or checkpoint into another folder";
      break;
    case EROFS:
      error.value().code = Code::kPermissionDenied;
      break;
    default:
      break;
  }
  return error;
}

Result<NewFile> NewFile::Create(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd) return StorageError(errno, "create", path);
  return NewFile(path, std::move(fd));
}

Status NewFile::Write(std::span<const std::byte> data) {
  hasher_->Update(data);
  bytes_ += data.size();
  while (!data.empty()) {
    const ssize_t put = ::write(fd_.get(), data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return StorageError(errno, "write", path_);
    data = data.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status NewFile::Finish() {
  MUSTER_TRY(Failpoint("checkpoint.sync"));
  if (::fsync(fd_.get()) != 0) return StorageError(errno, "sync", path_);
  // Network file systems may report a full disk only now.
  if (::close(fd_.release()) != 0) return StorageError(errno, "close", path_);
  return {};
}

Result<OldFile> OldFile::Open(const std::filesystem::path& path) {
  // A pipe in place of the file must not make this wait.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == ENOENT) return Err(Code::kDataLoss, "{} is missing", path.string());
  if (!fd) return StorageError(errno, "open", path);
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return StorageError(errno, "inspect", path);
  if (!S_ISREG(info.st_mode)) return Err(Code::kDataLoss, "{} is not a file", path.string());
  return OldFile(path, std::move(fd), static_cast<uint64_t>(info.st_size));
}

Status OldFile::Read(std::span<std::byte> data) {
  for (std::span<std::byte> rest = data; !rest.empty();) {
    const ssize_t got = ::read(fd_.get(), rest.data(), rest.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Err(Code::kDataLoss, "{}", StorageError(errno, "read", path_).value().message);
    }
    if (got == 0) return Err(Code::kDataLoss, "{} ends too early", path_.string());
    rest = rest.subspan(static_cast<size_t>(got));
  }
  hasher_->Update(data);
  return {};
}

}  // namespace muster
