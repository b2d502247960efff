// PodAgent: the agent of a worker pod. It asks the coordinator what the job is, fetches the job's files if it has some, and looks after
// the pod's worker; meanwhile it passes the files on to other agents.
//
// Threading: must be called on the main thread of a process without other threads.
#pragma once

#include "runtime/base/status.h"

namespace muster::kubernetes {

// The body of `launcher agent --platform kubernetes`. Returns the agent's exit code (launcher/agent/agent.h). Errors: those of
// ReadPodEnvironment, RunAgent and Fetch, the last of which become events of the job too; kDeadlineExceeded if no coordinator has
// answered within 10 minutes; kUnimplemented for a pod with several workers.
Result<int> RunPodAgent();

}  // namespace muster::kubernetes
