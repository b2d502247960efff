// JobStore: the jobs of one MUSTER_HOME: makes their folders, lists them, and tells a living job from a dead one.
//
// A job of this machine lives as long as its supervisor holds the lock on its folder. The kernel frees the lock when the supervisor
// ends, in whatever way, so a stale job is never taken for a running one. A job on a cluster (its folder has a cluster.json) lives
// without anybody here; it counts as running until its result has been fetched.
//
// Threading: plain values and const methods. Several processes may use one home: a folder appears by one rename, complete.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster {

// $MUSTER_HOME, else $XDG_STATE_HOME/muster, else $HOME/.local/state/muster. Errors: kFailedPrecondition when none of them
// is set, kInvalidArgument when the one that counts is not an absolute path.
Result<std::filesystem::path> MusterHome();

// `bytes` random bytes from the kernel, in hex.
std::string RandomHex(int bytes);

struct CreatedJob {
  JobFolder folder;
  UniqueFd lock;  // keep it open as long as the job runs; children that inherit it hold it too
};

class JobStore {
 public:
  explicit JobStore(const std::filesystem::path& home) : jobs_(home / "jobs") {}

  const std::filesystem::path& jobs() const { return jobs_; }
  JobFolder Folder(const std::string& name) const { return JobFolder(jobs_ / name); }

  // Makes the folder of a new job with its secret, and writes `spec`. A finished job of that name is removed; the oldest
  // finished ones beyond kKeptJobs are too. Errors: kAlreadyExists (a job of that name is running), kResourceExhausted or
  // another of the file system.
  Result<CreatedJob> Create(const JobSpec& spec) const;

  // The jobs there are, newest first. A folder without a readable job.json is left out.
  std::vector<JobSpec> List() const;

  // Whether the job is not known to have ended.
  bool IsRunning(const std::string& name) const;

  // Whether the job is one of a cluster.
  bool IsOnCluster(const std::string& name) const;

  // Whether somebody holds the job's lock: runs it here, or follows it on its cluster.
  bool IsHeld(const std::string& name) const;

  // Takes the lock of a job. Errors: kAlreadyExists (somebody holds it), kNotFound.
  Result<UniqueFd> Hold(const std::string& name) const;

  // The content of status.json, corrected where nobody runs the job any more: such a job has failed, and `message` says
  // so. Of a job on a cluster it is what was last heard. Errors: kNotFound (no such job), kInvalidArgument (damaged).
  Result<nlohmann::json> ReadStatus(const std::string& name) const;

 private:
  Result<CreatedJob> Prepare(const JobSpec& spec, const std::filesystem::path& folder) const;
  Status MakeRoom(const std::string& name) const;
  void RemoveOld() const;
  bool HasRun(const std::string& name) const;

  std::filesystem::path jobs_;
};

inline constexpr int kKeptJobs = 50;

// The status of a job that has told nothing of itself yet.
nlohmann::json PendingStatus(const JobSpec& spec, std::string_view platform = "local");

// Shows every worker of a status as gone that has not finished.
void MarkWorkersGone(nlohmann::json& status);

// Whether a phase is final: succeeded, failed or stopped.
bool IsFinalPhase(std::string_view phase);

}  // namespace muster
