// Checkpoint folders: their names, and how a folder comes to be there whole or not at all.
//
//   step-000000000120             a complete checkpoint
//   .step-000000000120.tmp-PID    being written, or being deleted; its writer holds a lock on it
//   .step-000000000120.old-PID    a complete checkpoint, set aside for a moment while another one takes its name
//
// Threading: free functions are safe on different directories. A NewFolder belongs to one thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"
#include "runtime/state/checkpoint.h"

namespace muster {

std::string CheckpointName(uint64_t step);

struct FolderName {
  enum class Kind { kComplete, kTemporary, kAside };
  Kind kind = Kind::kComplete;
  uint64_t step = 0;
};
std::optional<FolderName> ParseFolderName(const std::string& name);

// As ListCheckpoints, but with an error when `directory` exists and cannot be read.
Result<std::vector<CheckpointEntry>> FindCheckpoints(const std::filesystem::path& directory);

// Removes what dead writers have left in `directory`, and gives a checkpoint back its name that was set aside by one.
Status CleanUpAfterDeadWriters(const std::filesystem::path& directory);

// Deletes all but the newest `keep` of the checkpoints up to `newest_step`. Later ones (which were damaged, or this run would have
// started from them) do not count and stay. Each disappears at once, under a temporary name.
Status KeepNewest(const std::filesystem::path& directory, uint64_t newest_step, int keep);

// A folder under a temporary name. It is removed with all its content unless it is published.
class NewFolder {
 public:
  // Errors: kPermissionDenied, kResourceExhausted, kUnavailable (somebody is writing this step).
  static Result<NewFolder> Create(const std::filesystem::path& directory, uint64_t step);
  NewFolder(NewFolder&& other) noexcept;
  ~NewFolder();

  const std::filesystem::path& path() const { return path_; }

  // Syncs the folder and gives it its name. An older folder of that name is replaced, and can be listed until then; with
  // `can_exchange` false as on file systems that cannot exchange two names.
  Status Publish(bool can_exchange = true);

 private:
  NewFolder(std::filesystem::path directory, uint64_t step);
  Status Replace(const std::filesystem::path& name, bool can_exchange);

  std::filesystem::path directory_;
  uint64_t step_;
  std::filesystem::path path_;  // empty when there is nothing to remove
  UniqueFd lock_;
};

}  // namespace muster
