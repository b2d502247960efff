// PodAgent: the agent of a worker pod. It asks the coordinator what the job is, and looks after the pod's worker.
//
// Threading: must be called on the main thread of a process without other threads.
#pragma once

#include "runtime/base/status.h"

namespace muster::kubernetes {

// The body of `launcher agent --platform kubernetes`. Returns the agent's exit code (launcher/agent/agent.h). Errors: those of
// ReadPodEnvironment and RunAgent; kDeadlineExceeded if no coordinator has answered within 10 minutes; kUnimplemented for a pod
// with several workers.
Result<int> RunPodAgent();

}  // namespace muster::kubernetes
