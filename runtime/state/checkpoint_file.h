// Checkpoint files: written once and durably, read once from begin to end, hashed on the way.
//
// Threading: an object belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/hash.h"
#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster {

// The error of a failed system call on `path` ("cannot write DIR/x: No space left on device"), with the codes of checkpoint.h.
tl::unexpected<Error> StorageError(int errno_value, std::string_view action,
                                   const std::filesystem::path& path);

// A new file that is hashed while it is written.
class NewFile {
 public:
  // Errors of all methods: kResourceExhausted (disk full, quota, size limit), kPermissionDenied; with the path.
  static Result<NewFile> Create(const std::filesystem::path& path);
  Status Write(std::span<const std::byte> data);
  // Makes the content durable and closes the file.
  Status Finish();
  uint64_t bytes() const { return bytes_; }
  std::string hash() const { return hasher_->Digest().ToHex(); }

 private:
  NewFile(std::filesystem::path path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::filesystem::path path_;
  UniqueFd fd_;
  uint64_t bytes_ = 0;
  std::unique_ptr<Hasher> hasher_ = std::make_unique<Hasher>();
};

// A regular file, read from its begin to its end and hashed on the way.
class OldFile {
 public:
  // Errors: kDataLoss (missing or not a regular file), kPermissionDenied; with the path.
  static Result<OldFile> Open(const std::filesystem::path& path);
  // Fills `data` with the next bytes. Errors: kDataLoss (the file ends, or cannot be read).
  Status Read(std::span<std::byte> data);
  uint64_t bytes() const { return bytes_; }
  std::string hash() const { return hasher_->Digest().ToHex(); }

 private:
  OldFile(std::filesystem::path path, UniqueFd fd, uint64_t bytes)
      : path_(std::move(path)), fd_(std::move(fd)), bytes_(bytes) {}

  std::filesystem::path path_;
  UniqueFd fd_;
  uint64_t bytes_ = 0;
  std::unique_ptr<Hasher> hasher_ = std::make_unique<Hasher>();
};

}  // namespace muster
