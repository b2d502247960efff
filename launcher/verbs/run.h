// Run: the plan of `launcher run`, made from its options before anything is started.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/bundle/local_bundle.h"
#include "launcher/job/job.h"
#include "launcher/verbs/origins.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

enum class PlanFor {
  kRun,      // this machine; a folder for checkpoints is made
  kShow,     // the same, but it is only checked that the folder could be made
  kCluster,  // Kubernetes: its paths are those of containers, where nobody can look from here
};

struct RunPlan {
  JobSpec spec;                        // complete but for id, supervisor and time
  JobFile file;                        // as it was read; empty without -f
  std::vector<Origin> values;          // where each comes from
  std::vector<std::string> set_aside;  // "FILE:LINE:COLUMN: KEY" that this machine does not honour
  std::optional<uint64_t> newest_checkpoint;  // step of the newest one that a resume finds
  std::vector<BundleSource> sources;          // kCluster: what the run needs of this machine
  bool name_is_random = false;                // nobody has named the job
};

// Errors: kInvalidArgument or kUnimplemented naming flag or place in the job file, value and what is allowed; those of
// Request::Create and FindProgram.
Result<RunPlan> PlanRun(const Invocation& invocation, PlanFor purpose);

// Whether the job is one for Kubernetes, by flag or file. Errors: those of Request::Create.
Result<bool> WantsCluster(const Invocation& invocation);

// The body of `launcher plan`: prints what `launcher run` would do with the same arguments. Starts and makes nothing. Errors: those of
// PlanRun; kAlreadyExists if a job of that name is running.
Result<int> ShowPlan(const Invocation& invocation);

// The body of `launcher render`: prints the objects that `launcher run --platform kubernetes` makes, with placeholders for what only
// the server knows. Contacts nobody. Errors: those of PlanRun; kInvalidArgument naming the flag.
Result<int> ShowObjects(const Invocation& invocation);

// The body of `launcher schema`.
Result<int> ShowSchema(const Invocation& invocation);

// The body of `launcher run`.
Result<int> RunJob(const Invocation& invocation);

// The same for Kubernetes: makes the run and follows it. Ctrl-C ends the following, the first SIGTERM stops the job, the second deletes
// the run; while it is being made, any signal takes back what is there. Errors: those of PlanRun, LoadClientConfig and JobStore::Create;
// what the cluster refuses is printed, and gives exit code 5 or 2.
Result<int> RunOnCluster(const Invocation& invocation);

// The wall clock, as in JobSpec::created_ms.
int64_t UnixMilliseconds();

}  // namespace muster
