// RemoteRun: one run on a cluster as it is seen from the outside: its coordinator by HTTP through the API server, what the
// coordinator has left in the run's ConfigMap, and the state of what runs it.
//
// Threading: safe from any thread; calls block until their deadline at most.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "k8s/client/api_client.h"
#include "launcher/job/job.h"
#include "launcher/platform/kubernetes/waiting_reasons.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {

// What the API server knows of a run.
struct RunLook {
  bool gone = false;                    // the ConfigMap is not there: nor is the run
  bool started = false;                 // a coordinator has taken it over once
  std::optional<std::string> finished;  // the `finished` object
  std::string status;                   // the last status object that was kept; may be empty
  std::string events;                   // the newest events, JSON lines
  RunScene scene;
};

// One run of a namespace.
struct ListedRun {
  JobSpec spec;
  std::string uid;
  std::string status;  // as in RunLook
  bool started = false;
  std::optional<std::string> finished;
};

class RemoteRun {
 public:
  // `secret` as in the run's Secret.
  RemoteRun(std::unique_ptr<k8s::ApiClient> api, std::string namespace_name, JobSpec spec,
            std::string uid, std::string secret);

  k8s::ApiClient& api() const { return *api_; }
  const std::string& namespace_name() const { return namespace_name_; }
  const JobSpec& spec() const { return spec_; }
  const std::string& uid() const { return uid_; }
  std::string name() const;

  // Errors: those of the API client. A run that is not there is none.
  Result<RunLook> Look(const k8s::Call& call) const;

  // Why a pod of the run does not run (waiting_reasons.h), without its name; empty if it does. Errors: those of the API client.
  Result<std::string> WhyPodWaits(const std::string& pod, const k8s::Call& call) const;

  // The coordinator's routes (docs/gateway.md). Errors: the coordinator's own, with its hint; kUnavailable if it does not answer.
  Result<nlohmann::json> Status(const k8s::Call& call) const;
  Result<nlohmann::json> Resize(const WorkerRange& workers, const k8s::Call& call) const;
  Result<nlohmann::json> Stop(bool now, const std::string& reason, const k8s::Call& call) const;
  // The chunks of the job's files that the coordinator lacks and no agent has. Errors: also kFailedPrecondition (it knows of no
  // files).
  Result<std::vector<std::string>> MissingChunks(const k8s::Call& call) const;
  Result<void> PutChunk(const std::string& hash, const std::string& compressed,
                        const k8s::Call& call) const;
  // The lines to read; the deadline of `call` holds until they begin. One attempt.
  Result<std::unique_ptr<k8s::HttpStream>> Events(uint64_t after, bool follow,
                                                  const k8s::Call& call) const;

 private:
  k8s::ProxyTarget Target() const;

  const std::unique_ptr<k8s::ApiClient> api_;
  const std::string namespace_name_;
  const JobSpec spec_;
  const std::string uid_;
  const std::string secret_;
};

// The runs of a namespace, those of the job `name` only if it is not empty; the youngest first. What cannot be read is left out.
Result<std::vector<ListedRun>> ListRuns(k8s::ApiClient& api, const std::string& namespace_name,
                                        const std::string& name, const k8s::Call& call);

// The secret of a run. Errors: kNotFound, kPermissionDenied, kDataLoss.
Result<std::string> ReadRunSecret(k8s::ApiClient& api, const std::string& namespace_name,
                                  const JobSpec& spec, const k8s::Call& call);

// A status object as the progress event that a local job sends.
std::string ProgressOf(const nlohmann::json& status);

}  // namespace muster::kubernetes
