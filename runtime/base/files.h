// Files: small helpers for whole files. All return the path and the system's reason on failure.
//
// Threading: free functions, safe from any thread on different paths.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace muster {

// The whole content of the file at `path`. Errors: kNotFound, kPermissionDenied; kResourceExhausted over `max_bytes`.
Result<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes = size_t{1} << 30);

// Writes `content` to a temporary file beside `path` and renames it over `path`: a reader sees the old or the new
// content, never half of one. With `durable`, file and folder are fsynced, so that it survives a power cut.
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content,
                           bool durable = false, unsigned mode = 0644);

// Removes what WriteFileAtomically() of a process that was killed meanwhile has left in `folder`.
void RemoveHalfWritten(const std::filesystem::path& folder, pid_t writer);

// Writes all of `data` to `fd`, going on after short writes and EINTR.
Status WriteAll(int fd, std::span<const std::byte> data, std::string_view what);

// Makes the folder and those above it, as far as they are not there.
Status MakeFolder(const std::filesystem::path& path);

// fsyncs the folder, so that a rename inside it survives a power cut.
Status SyncFolder(const std::filesystem::path& folder);

}  // namespace muster
