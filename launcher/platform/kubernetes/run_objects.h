// RunObjects: makes the objects of a run on a cluster, has them checked, and takes them away again.
//
// Threading: free functions; they block at most until their deadline, or until the stop token.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "k8s/client/api_client.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {

// Makes all objects of the run but its worker pods: first the ConfigMap that owns the others, last the Job. `on_owner` is called with
// the uid of the ConfigMap as soon as it is there. Returns that uid.
// Errors, each naming the object: kPermissionDenied (a right is missing, or a policy of the namespace refuses it), kNotFound (no such
// namespace), kAlreadyExists (an object of that name which is not of this run), kInvalidArgument (the server finds it wrong),
// kResourceExhausted (quota), kCancelled, and those of a server that is not reached. What was made stays: call RemoveRun.
Result<std::string> MakeRun(k8s::ApiClient& api, ClusterRun run, const std::string& secret,
                            const std::stop_token& stop,
                            const std::function<void(const std::string& uid)>& on_owner);

struct Verdict {
  std::string kind;
  std::string name;
  Status answer;
};

// Asks the server about every object of the run, with a pod of each pool, and changes nothing. Errors: the server is not reached.
Result<std::vector<Verdict>> CheckRun(k8s::ApiClient& api, ClusterRun run,
                                      const std::string& secret);

// Deletes the run's ConfigMap, and so all of the run: the server deletes the rest by and by. Without a `uid`, it is deleted if it is of
// this run. It is no error if it is not there any more.
Status RemoveRun(k8s::ApiClient& api, const std::string& namespace_name, const JobSpec& spec,
                 const std::string& uid);

// The names of the run's Job and pods that are still there: "job x", "pod y".
Result<std::vector<std::string>> WhatIsLeft(k8s::ApiClient& api, const std::string& namespace_name,
                                            const JobSpec& spec);
// The same of the workers' pods only.
Result<std::vector<std::string>> WorkersLeft(k8s::ApiClient& api, const std::string& namespace_name,
                                             const JobSpec& spec);

// "muster.dev/run=1a2b3..."
std::string RunSelector(const JobSpec& spec);

}  // namespace muster::kubernetes
