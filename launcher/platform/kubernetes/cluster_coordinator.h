// ClusterCoordinator: the coordinator of a run in its pod: takes the run over, serves the job, owns the worker pods, and leaves the
// result in the run's ConfigMap.
//
//   CoordinatorServer (core, gRPC, HTTP) <--state, members--> FleetShell (worker pods)
//            |                                                    |
//            +--- ClusterStore, RunMirror ---> RunRecord <--------+
//
// Threading: must be called on the main thread, before others are started.
#pragma once

#include "runtime/base/status.h"

namespace muster::kubernetes {

// The body of `launcher coordinator --platform kubernetes`. Returns the exit code: 0 once the job has ended and its pods are gone, or
// if there is no such run; 1 when it was told to go (SIGTERM; training goes on, the next one takes over) or is fenced. Errors: what is
// wrong with the environment, the run's ConfigMap, or the coordinator's rights.
Result<int> RunClusterCoordinator();

}  // namespace muster::kubernetes
