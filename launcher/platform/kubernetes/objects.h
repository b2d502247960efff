// Objects: the Kubernetes objects of a run, made from its job. What only the API server knows is an argument; docs/kubernetes.md
// shows them.
//
//   ConfigMap NAME              the run itself. It owns all others: deleting it deletes the run
//   Secret NAME                 what coordinator and workers prove themselves with
//   ServiceAccount, Role,
//   RoleBinding NAME            the coordinator's rights
//   Service NAME                the coordinator's address, as long as the run exists
//   Job NAME-coordinator        keeps one coordinator running
//   Pod NAME-POOL-SERIAL        a worker's machine share, made by the coordinator
//
// Threading: pure functions. The JobSpec must be valid (JobSpec::Validate) and the JobFile read by ParseJobFile.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/jobfile/job_file.h"

namespace muster::kubernetes {

using Json = nlohmann::ordered_json;

inline constexpr int kGrpcPort = 7070;
inline constexpr int kHttpPort = 7071;  // JSON for those who come through the API server's proxy

// What the containers run; the image must have `launcher` in its PATH.
inline const std::vector<std::string> kCoordinatorCommand{"launcher", "coordinator", "--platform",
                                                          "kubernetes"};
inline const std::vector<std::string> kAgentCommand{"launcher", "agent", "--platform",
                                                    "kubernetes"};

inline constexpr int kGraceSeconds = 30;  // from the signal to the kill of a container

// In the containers. Both folders are memory: a disk would keep the autoscaler from emptying the node.
inline constexpr std::string_view kWorkFolder =
    "/muster/job";  // writable, as /tmp; the rest is not
inline constexpr std::string_view kSecretFolder = "/muster/secret";
inline constexpr std::string_view kSecretKey =
    "secret";  // of the run's Secret; a file in that folder

// The environment of the containers: MUSTER_RUN (the name of the ConfigMap), MUSTER_JOB (the id of the run), MUSTER_NAMESPACE, MUSTER_POD_NAME, MUSTER_POD_IP,
// MUSTER_HOME (kWorkFolder), and for workers MUSTER_COORDINATOR (IP:PORT), MUSTER_POOL, MUSTER_DEVICES (workers of this pod) and, with GPUs,
// MUSTER_GPU_EXPECTED (runtime/train/environment.h).

// The keys of the run's ConfigMap: those it is made with, and those that the coordinator adds.
inline constexpr std::string_view kJobKey = "job.json";           // JobSpec::ToJson
inline constexpr std::string_view kJobFileKey = "job-file.json";  // ToJson of the JobFile
inline constexpr std::string_view kImageKey = "image";
inline constexpr std::string_view kEpochKey = "epoch";    // a number, one more for each coordinator
inline constexpr std::string_view kStateKey = "state";    // CoordinatorState
inline constexpr std::string_view kFleetKey = "fleet";    // FleetSaved
inline constexpr std::string_view kStatusKey = "status";  // the status object
inline constexpr std::string_view kEventsKey = "events";  // the newest, one JSON object a line
inline constexpr std::string_view kResultKey = "result";  // the `finished` object, once

struct ClusterRun {
  JobSpec spec;
  JobFile file;
  std::string namespace_name;
  std::string image;            // of the coordinator and the workers
  std::string service_account;  // the coordinator's; empty: the run brings its own
  std::string owner_uid;        // of the run's ConfigMap; that itself does not need it
  std::string coordinator_ip;   // the ClusterIP of the Service; only WorkerPod needs it
};

Json RunConfigMap(const ClusterRun& run);

// `secret` is text; it is in no other object.
Json RunSecret(const ClusterRun& run, std::string_view secret);

// ServiceAccount, Role and RoleBinding; none if the user has named a service account.
std::vector<Json> CoordinatorRights(const ClusterRun& run);

Json CoordinatorService(const ClusterRun& run);
Json CoordinatorJob(const ClusterRun& run);

// The pools of the job file; without any, one named "workers".
std::vector<Pool> PoolsOf(const ClusterRun& run);

// A pod with pool.device_count workers. The pods of a pool are equal but for name and annotations: the cluster autoscaler groups
// pods that are, and plans for each group on its own.
Json WorkerPod(const ClusterRun& run, const Pool& pool, int64_t serial);

// Role and RoleBinding with all that `user` needs in a namespace to run jobs, the rights of coordinators included: nobody may
// hand on rights that he does not have.
std::vector<Json> Rbac(const std::string& namespace_name, const std::string& user);

}  // namespace muster::kubernetes
