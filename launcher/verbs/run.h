// Run: the plan of `launcher run`, made from its options before anything is started.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/verbs/origins.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

struct RunPlan {
  JobSpec spec;                        // complete but for id, supervisor and time
  std::vector<Origin> values;          // where each comes from
  std::vector<std::string> set_aside;  // "FILE:LINE:COLUMN: KEY" that this machine does not honour
  std::optional<uint64_t> newest_checkpoint;  // step of the newest one that a resume finds
  bool name_is_random = false;                // nobody has named the job
};

// With `create_folders` the folder for checkpoints is made, else it is only checked that it could be.
// Errors: kInvalidArgument or kUnimplemented naming flag or place in the job file, value and what is allowed; those of
// Request::Create and FindProgram.
Result<RunPlan> PlanRun(const Invocation& invocation, bool create_folders);

// The body of `launcher plan`: prints what `launcher run` would do with the same arguments. Starts and makes nothing. Errors: those of
// PlanRun; kAlreadyExists if a job of that name is running.
Result<int> ShowPlan(const Invocation& invocation);

// The body of `launcher schema`.
Result<int> ShowSchema(const Invocation& invocation);

// The body of `launcher run`.
Result<int> RunJob(const Invocation& invocation);

}  // namespace muster
