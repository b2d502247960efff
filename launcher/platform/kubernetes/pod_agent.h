// PodAgent: the agent of a worker pod. It asks the coordinator what the job is, fetches the job's files if it has some, and looks after
// the pod's worker, or has an agent look after each of several; meanwhile it passes the files on to other pods.
//
// Threading: must be called on the main thread of a process without other threads.
#pragma once

#include "runtime/base/status.h"

namespace muster::kubernetes {

// The body of `launcher agent --platform kubernetes`. Returns the agent's exit code (launcher/agent/agent.h). Errors: those of
// ReadPodEnvironment, RunAgent, RunAgents and Fetch, the last of which become events of the job too; kDeadlineExceeded if no coordinator has
// answered within 10 minutes.
Result<int> RunPodAgent();

}  // namespace muster::kubernetes
