// ClusterTarget: which cluster and namespace a command line means, and the run that its job becomes there.
//
// Threading: none.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "k8s/client/api_client.h"
#include "launcher/platform/kubernetes/objects.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

// --namespace, --kubeconfig and --context, for verbs that speak to a cluster.
std::vector<OptionSpec> ClusterOptions();
// --image and --service-account, for those that make a run.
std::vector<OptionSpec> ImageOptions();

// Whether the command line names a cluster by one of ClusterOptions().
bool NamesCluster(const Invocation& invocation);

// Whether a verb without a job is about a cluster: by --platform, or because it names one. Errors: kInvalidArgument.
Result<bool> IsForKubernetes(const Invocation& invocation);

// --namespace if it is given, else `otherwise`. Errors: kInvalidArgument.
Result<std::string> NamespaceOf(const Invocation& invocation, const std::string& otherwise);

struct ClusterTarget {
  k8s::ClientConfig config;
  ClusterPlace place;  // without run and uid: how to find the same cluster again
};

// Reads the kubeconfig. Errors: those of LoadClientConfig and NamespaceOf.
Result<ClusterTarget> ChooseTarget(const Invocation& invocation);
Result<k8s::ClientConfig> ConfigOf(const ClusterPlace& place);

// The job of `run` and `render`.
struct ClusterPlan {
  RunPlan job;
  kubernetes::ClusterRun run;         // with placeholders for what the server gives
  std::optional<LocalBundle> bundle;  // what has to be sent to it, if anything
};

// Reads the files that have to be sent. Errors: those of PlanRun and LocalBundle::Create; kInvalidArgument naming the flag.
Result<ClusterPlan> PlanClusterRun(const Invocation& invocation, const std::string& namespace_name);

// Prints what `verb` could not do on a cluster; the exit code of it.
int ReportClusterFailure(std::string_view verb, const Error& error);
// 5 for a cluster that is not reached or forbids it, else as ExitCodeOf.
int ClusterExitCode(Code code);

}  // namespace muster
