#include "runtime/state/checkpoint_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <system_error>

#include "runtime/base/failpoint.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/state/checkpoint_file.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

std::string HiddenName(uint64_t step, std::string_view suffix) {
  return fmt::format(".{}.{}-{}", CheckpointName(step), suffix, ::getpid());
}

// The lock of a folder, free as soon as its holder is dead; empty while somebody holds it.
UniqueFd TryLock(const fs::path& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) fd.reset();
  return fd;
}

Status Rename(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return {};
  return StorageError(errno, fmt::format("rename to {}", to.filename().string()), from);
}

bool Exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

Status RemoveAll(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return StorageError(error.value(), "remove", path);
  return {};
}

struct Found {
  FolderName name;
  fs::path path;
};

// All folders of ours in `directory`. A missing directory is empty.
Result<std::vector<Found>> Scan(const fs::path& directory) {
  std::vector<Found> found;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const auto name = ParseFolderName(entries->path().filename().string());
    std::error_code ignored;
    if (name && entries->is_directory(ignored)) found.push_back({*name, entries->path()});
  }
  if (error) return StorageError(error.value(), "list", directory);
  return found;
}

bool HasComplete(const std::vector<Found>& all, uint64_t step) {
  return std::ranges::any_of(all, [step](const Found& found) {
    return found.name.kind == FolderName::Kind::kComplete && found.name.step == step;
  });
}

}  // namespace

std::string CheckpointName(uint64_t step) { return fmt::format("step-{:012}", step); }

std::optional<FolderName> ParseFolderName(const std::string& name) {
  constexpr std::string_view kStep = "step-";
  FolderName parsed;
  const bool hidden = name.starts_with('.');
  const std::string_view visible = std::string_view(name).substr(hidden ? 1 : 0);
  if (!visible.starts_with(kStep)) return std::nullopt;
  const char* const digits = visible.data() + kStep.size();
  const char* const end = visible.data() + visible.size();
  const auto number = std::from_chars(digits, end, parsed.step);
  if (number.ec != std::errc()) return std::nullopt;
  const std::string_view rest(number.ptr, static_cast<size_t>(end - number.ptr));
  // Only the one spelling of a number that we write.
  if (visible.substr(0, visible.size() - rest.size()) != CheckpointName(parsed.step)) {
    return std::nullopt;
  }
  if (!hidden && rest.empty()) return parsed;
  if (!hidden) return std::nullopt;
  parsed.kind = FolderName::Kind::kTemporary;
  if (rest.starts_with(".tmp-")) return parsed;
  parsed.kind = FolderName::Kind::kAside;
  if (rest.starts_with(".old-")) return parsed;
  return std::nullopt;
}

Result<std::vector<CheckpointEntry>> FindCheckpoints(const fs::path& directory) {
  MUSTER_ASSIGN(const std::vector<Found> all, Scan(directory));
  std::vector<CheckpointEntry> entries;
  for (const Found& found : all) {
    const bool complete = found.name.kind == FolderName::Kind::kComplete;
    const bool lost_its_name =
        found.name.kind == FolderName::Kind::kAside && !HasComplete(all, found.name.step);
    if (complete || lost_its_name) entries.push_back({found.path, found.name.step});
  }
  std::ranges::sort(entries, std::greater(), &CheckpointEntry::step);
  return entries;
}

Status CleanUpAfterDeadWriters(const fs::path& directory) {
  MUSTER_ASSIGN(const std::vector<Found> all, Scan(directory));
  for (const Found& found : all) {
    if (found.name.kind == FolderName::Kind::kComplete) continue;
    const UniqueFd lock = TryLock(found.path);
    if (!lock) continue;
    if (found.name.kind == FolderName::Kind::kAside && !HasComplete(all, found.name.step)) {
      MUSTER_TRY(Rename(found.path, directory / CheckpointName(found.name.step)));
    } else {
      MUSTER_TRY(RemoveAll(found.path));
    }
  }
  return {};
}

Status KeepNewest(const fs::path& directory, uint64_t newest_step, int keep) {
  MUSTER_ASSIGN(const std::vector<CheckpointEntry> entries, FindCheckpoints(directory));
  int kept = 0;
  for (const CheckpointEntry& entry : entries) {
    if (entry.step > newest_step || kept++ < keep) continue;
    const fs::path hidden = directory / HiddenName(entry.step, "tmp");
    MUSTER_TRY(Rename(entry.folder, hidden));
    MUSTER_TRY(RemoveAll(hidden));
  }
  return {};
}

NewFolder::NewFolder(fs::path directory, uint64_t step)
    : directory_(std::move(directory)), step_(step) {}

NewFolder::NewFolder(NewFolder&& other) noexcept
    : directory_(std::move(other.directory_)),
      step_(other.step_),
      path_(std::exchange(other.path_, fs::path())),
      lock_(std::move(other.lock_)) {}

Result<NewFolder> NewFolder::Create(const fs::path& directory, uint64_t step) {
  NewFolder folder(directory, step);
  const fs::path path = directory / HiddenName(step, "tmp");
  if (::mkdir(path.c_str(), 0755) != 0) {
    if (errno != EEXIST) return StorageError(errno, "create", path);
    return Err(Code::kUnavailable, "{} is being written by somebody else", path.string());
  }
  folder.path_ = path;
  folder.lock_ = TryLock(path);
  if (!folder.lock_) return Err(Code::kUnavailable, "cannot lock {}", path.string());
  return folder;
}

NewFolder::~NewFolder() {
  if (path_.empty()) return;
  const Status removed = RemoveAll(path_);
  if (!removed) log::warn("checkpoint leftover error=\"{}\"", removed.error().ToString());
}

Status NewFolder::Publish(bool can_exchange) {
  if (::fsync(lock_.get()) != 0) return StorageError(errno, "sync", path_);
  MUSTER_TRY(Failpoint("checkpoint.rename"));
  const fs::path name = directory_ / CheckpointName(step_);
  std::error_code ignored;
  if (fs::exists(name, ignored)) {
    MUSTER_TRY(Replace(name, can_exchange));
  } else {
    MUSTER_TRY(Rename(path_, name));
    path_.clear();
  }
  MUSTER_TRY(Failpoint("checkpoint.renamed"));
  return SyncFolder(directory_);
}

Status NewFolder::Replace(const fs::path& name, bool can_exchange) {
  // The temporary name then holds the old folder, which the destructor removes.
  if (can_exchange && Exchange(path_, name)) return {};
  const fs::path aside = directory_ / HiddenName(step_, "old");
  MUSTER_TRY(Rename(name, aside));
  const Status renamed = Rename(path_, name);
  if (!renamed) {
    if (!Rename(aside, name)) log::warn("checkpoint set aside folder={}", aside.string());
    return renamed;
  }
  path_ = aside;
  return {};
}

}  // namespace muster
