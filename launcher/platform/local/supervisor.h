// Supervisor: runs one local job from its folder to its end: the coordinator, an agent for each slot, and whatever they leave.
//
// Nothing outlives it: children die with it by their death signal, and as a subreaper it finds and kills what they orphan.
//
// Threading: SuperviseJob must be called on the main thread, before any other thread of the process blocks signals; it starts
// threads of its own for the line to the coordinator. The observer is called on the main thread and must not block.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/job/outcome.h"
#include "runtime/base/status.h"

namespace muster {

struct JobOutcome {
  std::string
      finished;  // the `finished` object: the coordinator's, or ours if it could not say it any more
  int exit_code = 1;              // for `launcher run`
  std::vector<pid_t> unkillable;  // processes that were still there in the end
};

// Blocks until the job has ended and nothing of it is left, or until that has failed within seconds. The first SIGINT, SIGTERM or
// SIGHUP stops the job after its step, the second kills it. Errors: kInternal when the launcher itself cannot go on.
Result<JobOutcome> SuperviseJob(const JobFolder& folder, const JobSpec& spec,
                                JobObserver& observer);

}  // namespace muster
