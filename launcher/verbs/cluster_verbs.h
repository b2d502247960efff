// ClusterVerbs: what status, events, logs, resize, stop and ps do for jobs on a cluster. The verbs of jobs.h call them.
//
// Each prints what the cluster does not grant and returns the exit code. Threading: none.
#pragma once

#include "launcher/verbs/cluster_job.h"
#include "launcher/verbs/verb.h"

namespace muster {

Result<int> ShowClusterEvents(const Invocation& invocation, const JobStore& store,
                              const ClusterJob& job);
Result<int> ShowClusterLogs(const Invocation& invocation, const ClusterJob& job);
Result<int> ResizeClusterJob(const Invocation& invocation, const ClusterJob& job,
                             const WorkerRange& workers);
Result<int> StopClusterJob(const Invocation& invocation, const JobStore& store,
                           const ClusterJob& job);
// `launcher ps --platform kubernetes`: the runs in the namespace.
Result<int> ListClusterRuns(const Invocation& invocation);

}  // namespace muster
