// ClusterJob: the job on a cluster that a verb is about: one whose folder is here, or one that only its namespace knows.
//
// Threading: none.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/job/store.h"
#include "launcher/platform/kubernetes/remote_run.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

struct ClusterJob {
  std::string name;
  std::unique_ptr<kubernetes::RemoteRun> run;
  std::optional<JobFolder> folder;  // nothing: the job was started elsewhere
};

// The job that a verb is about. `cluster` is set for one that runs on a cluster, as far as is known here; a job that has ended is
// looked at in its folder, wherever it ran.
struct FoundJob {
  std::string name;
  std::optional<ClusterJob> cluster;
};

// By name as FindJob; with one of the ClusterOptions(), in the namespace that they name, also by the name of its run.
// Errors: those of FindJob, ConfigOf and ChooseTarget; kNotFound, kInvalidArgument (several runs of that name).
Result<FoundJob> FindAnyJob(const Invocation& invocation, const JobStore& store,
                            const std::vector<std::string>& operands, bool or_newest);

// Opens the job of a folder with cluster.json. Errors: those of its readers and ConfigOf.
Result<ClusterJob> OpenClusterJob(const JobStore& store, const std::string& name);

// What the folder says of a run that is not on the cluster any more. Errors: kNotFound (there is no folder).
Result<nlohmann::json> AfterDeletion(const JobStore& store, const ClusterJob& job);

// What is known of a job: the coordinator's answer, else what it has left, with the reason of its silence as message. Where the run
// has ended, that is fetched into the folder and the run is deleted, unless somebody follows it. Blocks at most some `time`.
// Errors: the cluster is not reached; kNotFound (no such run, and no folder).
Result<nlohmann::json> AskStatus(const JobStore& store, const ClusterJob& job, Duration time);

// The same for a job wherever it runs, and for one on a cluster with why its pods wait, as scheduler, autoscaler and kubelet have told it
// in Events, which the coordinator does not follow: one pod of each kind is asked about.
Result<nlohmann::json> ExplainedStatus(const JobStore& store, const FoundJob& job);

// Keeps the end that `look` shows and deletes the run, as AskStatus does. False if it shows none, if somebody else keeps it, or if
// workers have not ended within some 3 s.
bool FetchEnd(const JobStore& store, const ClusterJob& job, const kubernetes::RunLook& look);

// The status of a run that has ended, from what it has left.
nlohmann::json EndOf(const JobSpec& spec, const kubernetes::RunLook& look);

}  // namespace muster
