#include "launcher/job/store.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "runtime/base/check.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxStatusBytes = size_t{64} << 20;

struct flock WholeFile() {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}

// Takes the lock of a job folder. Locks of open file descriptions, so that a forked child goes on holding it.
Result<UniqueFd> TakeLock(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return ErrnoError(errno, fmt::format("cannot open {}", path.string()));
  struct flock range = WholeFile();
  if (::fcntl(fd.get(), F_OFD_SETLK, &range) == 0) return fd;
  if (errno == EAGAIN || errno == EACCES) {
    return Err(Code::kAlreadyExists, "{} is locked by a running job", path.string());
  }
  return ErrnoError(errno, fmt::format("cannot lock {}", path.string()));
}

// Looks at the lock without taking it, so that a look never disturbs anybody.
bool IsLocked(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct flock range = WholeFile();
  return fd && ::fcntl(fd.get(), F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

std::vector<fs::path> FoldersIn(const fs::path& jobs) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(jobs, error)) {
    folders.push_back(entry.path());
  }
  return folders;
}

// Folders that are being made or removed have names that no job can have.
bool IsHalfDone(const fs::path& folder) { return folder.filename().string().starts_with('.'); }

void RemoveFolder(const fs::path& folder) {
  std::error_code ignored;  // what cannot be removed now is tried again when the next job is made
  fs::remove_all(folder, ignored);
}

}  // namespace

Result<fs::path> MusterHome() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  fs::path home;
  if (!variable("MUSTER_HOME").empty()) {
    // A relative MUSTER_HOME means a folder below the one the user is in.
    std::error_code error;
    home = fs::absolute(variable("MUSTER_HOME"), error);
  } else if (!variable("XDG_STATE_HOME").empty()) {
    home = fs::path(variable("XDG_STATE_HOME")) / "muster";
  } else if (!variable("HOME").empty()) {
    home = fs::path(variable("HOME")) / ".local/state/muster";
  } else {
    return WithHint(Err(Code::kFailedPrecondition,
                        "no place to keep jobs: neither MUSTER_HOME, XDG_STATE_HOME nor HOME is "
                        "set"),
                    "set MUSTER_HOME to a folder you may write to");
  }
  if (!home.is_absolute()) {
    return Err(Code::kInvalidArgument, "the folder for jobs, \"{}\", is not an absolute path",
               home.string());
  }
  return home.lexically_normal();
}

std::string RandomHex(int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    unsigned char byte = 0;
    MUSTER_CHECK(::getrandom(&byte, 1, 0) == 1, "the kernel gives no random bytes");
    text += fmt::format("{:02x}", byte);
  }
  return text;
}

Result<CreatedJob> JobStore::Prepare(const JobSpec& spec, const fs::path& path) const {
  JobFolder folder(path);
  MUSTER_TRY(MakeFolder(folder.logs()));
  MUSTER_ASSIGN(UniqueFd lock, TakeLock(folder.lock()));
  MUSTER_TRY(folder.WriteSecret(RandomHex(32)));
  MUSTER_TRY(folder.WriteSpec(spec));
  return CreatedJob{std::move(folder), std::move(lock)};
}

Status JobStore::MakeRoom(const std::string& name) const {
  const JobFolder folder = Folder(name);
  std::error_code error;
  if (!fs::exists(folder.root(), error)) return {};
  // Held while the folder is moved away, so that two launchers cannot both take the name.
  auto lock = TakeLock(folder.lock());
  if (!lock && lock.error().code == Code::kAlreadyExists) {
    return WithHint(Err(Code::kAlreadyExists, "a job named \"{}\" is running already", name),
                    fmt::format("choose another --name, or stop it: launcher stop {}", name));
  }
  if (!lock) return tl::unexpected(lock.error());
  if (HasRun(name)) {
    return WithHint(Err(Code::kAlreadyExists, "a job named \"{}\" is running on a cluster", name),
                    fmt::format("choose another --name, or look: launcher status {0}, launcher "
                                "stop {0}",
                                name));
  }
  const fs::path old = jobs_ / fmt::format(".old-{}", RandomHex(8));
  fs::rename(folder.root(), old, error);
  if (error)
    return ErrnoError(error.value(), fmt::format("cannot replace {}", folder.root().string()));
  RemoveFolder(old);
  return {};
}

Result<CreatedJob> JobStore::Create(const JobSpec& spec) const {
  MUSTER_TRY(spec.Validate());
  MUSTER_TRY(MakeFolder(jobs_));
  MUSTER_TRY(MakeRoom(spec.name));
  RemoveOld();
  const fs::path half = jobs_ / fmt::format(".new-{}", spec.id);
  auto created = Prepare(spec, half);
  if (!created) {
    RemoveFolder(half);
    if (created.error().code == Code::kResourceExhausted) {
      created.error().hint = fmt::format(
          "free some space there, or set MUSTER_HOME to a folder on another disk than {}",
          jobs_.string());
    }
    return created;
  }
  const JobFolder folder = Folder(spec.name);
  if (::renameat2(AT_FDCWD, half.c_str(), AT_FDCWD, folder.root().c_str(), RENAME_NOREPLACE) != 0) {
    const int error = errno;
    RemoveFolder(half);
    if (error == EEXIST) {
      return Err(Code::kAlreadyExists, "a job named \"{}\" was started at the same moment",
                 spec.name);
    }
    return ErrnoError(error, fmt::format("cannot make {}", folder.root().string()));
  }
  return CreatedJob{folder, std::move(created->lock)};
}

void JobStore::RemoveOld() const {
  for (const fs::path& folder : FoldersIn(jobs_)) {
    if (IsHalfDone(folder) && !IsLocked(JobFolder(folder).lock())) RemoveFolder(folder);
  }
  int kept = 0;
  for (const JobSpec& job : List()) {
    if (!IsRunning(job.name) && ++kept >= kKeptJobs) RemoveFolder(Folder(job.name).root());
  }
}

std::vector<JobSpec> JobStore::List() const {
  std::vector<JobSpec> found;
  for (const fs::path& folder : FoldersIn(jobs_)) {
    if (IsHalfDone(folder)) continue;
    auto spec = JobFolder(folder).ReadSpec();
    if (spec && spec->name == folder.filename()) found.push_back(std::move(*spec));
  }
  std::sort(found.begin(), found.end(), [](const JobSpec& a, const JobSpec& b) {
    return std::tie(b.created_ms, a.name) < std::tie(a.created_ms, b.name);
  });
  return found;
}

bool JobStore::IsRunning(const std::string& name) const { return IsHeld(name) || HasRun(name); }

// Whether it has a run on a cluster whose end nobody here knows of.
bool JobStore::HasRun(const std::string& name) const {
  std::error_code error;
  return IsOnCluster(name) && !fs::exists(Folder(name).result(), error);
}

bool JobStore::IsOnCluster(const std::string& name) const {
  std::error_code error;
  return fs::exists(Folder(name).cluster(), error);
}

bool JobStore::IsHeld(const std::string& name) const { return IsLocked(Folder(name).lock()); }

Result<UniqueFd> JobStore::Hold(const std::string& name) const {
  return TakeLock(Folder(name).lock());
}

Result<json> JobStore::ReadStatus(const std::string& name) const {
  const JobFolder folder = Folder(name);
  MUSTER_ASSIGN(const JobSpec spec, folder.ReadSpec());
  // Before the file: a job that ends between the two looks must not be taken for one that died.
  const bool running = IsRunning(name);
  const auto text = ReadFile(folder.status(), kMaxStatusBytes);
  const char* platform = IsOnCluster(name) ? "kubernetes" : "local";
  json status = text ? json::parse(*text, nullptr, false) : PendingStatus(spec, platform);
  if (!status.is_object()) {
    return Err(Code::kInvalidArgument, "{} is damaged", folder.status().string());
  }
  if (running) return status;
  MarkWorkersGone(status);
  if (IsFinalPhase(FieldOr<std::string>(status, "phase", ""))) return status;
  status["phase"] = "failed";
  status["message"] = fmt::format(
      "the launcher that ran this job (pid {}) died before the job had ended; nothing of it runs "
      "any more",
      spec.supervisor_pid);
  status["world_size"] = 0;
  status["samples_per_second"] = 0.0;
  return status;
}

void MarkWorkersGone(json& status) {
  json& workers = status["workers"];
  if (!workers.is_array()) workers = json::array();
  for (json& worker : workers) {
    if (!worker.is_object() || FieldOr<std::string>(worker, "state", "") == "finished") continue;
    worker["state"] = "gone";
  }
}

json PendingStatus(const JobSpec& spec, std::string_view platform) {
  return {{"name", spec.name},
          {"platform", platform},
          {"phase", "pending"},
          {"generation", 0},
          {"step", 0},
          {"total_steps", 0},
          {"world_size", 0},
          {"min_workers", spec.min_workers},
          {"max_workers", spec.max_workers},
          {"loss", nullptr},
          {"samples_per_second", 0.0},
          {"samples_consumed", 0},
          {"workers", json::array()},
          {"message", "starting"}};
}

bool IsFinalPhase(std::string_view phase) {
  return phase == "succeeded" || phase == "failed" || phase == "stopped";
}

}  // namespace muster
