// ConfigLoader: finds out which cluster to speak to, as whom: kubeconfig files, or the service account of the pod we run in.
//
// Threading: free functions; they read the environment, so nobody may change it meanwhile. They block for reading small files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "k8s/client/kubeconfig.h"

namespace muster::k8s {

// The part of the environment that decides, as a value, so that tests need not change the process's own.
struct ConfigEnvironment {
  std::string kubeconfig;    // $KUBECONFIG: paths with ":" between them
  std::string home;          // $HOME
  std::string service_host;  // $KUBERNETES_SERVICE_HOST: a name or address; IPv6 without brackets
  std::string service_port;  // $KUBERNETES_SERVICE_PORT
  std::filesystem::path service_account = "/var/run/secrets/kubernetes.io/serviceaccount";

  static ConfigEnvironment OfThisProcess();
};

struct ConfigChoice {
  std::filesystem::path
      kubeconfig;       // only this file, which must be there; empty: as the environment says
  std::string context;  // empty: the current one
  std::string namespace_name;  // empty: the context's
};

// In this order: the file of `choice`, the files of $KUBECONFIG (those that are not there are skipped, but one must be),
// ~/.kube/config, the service account of our pod.
// Errors: kNotFound (none of these), kInvalidArgument (a bad file, an unknown context), kPermissionDenied, each with a hint.
Result<ClientConfig> LoadClientConfig(const ConfigChoice& choice,
                                      const ConfigEnvironment& environment);

// The merged content of the files that are there, without choosing a context. A path named twice is read once.
// Errors: as above; kNotFound if no file is there.
Result<Kubeconfig> ReadKubeconfigs(const std::vector<std::filesystem::path>& paths);

// What the pod's service account says; its token and certificate authority are named as files, because they change.
// Errors: kNotFound (we are not in a pod), kFailedPrecondition (the pod has no token).
Result<ClientConfig> InClusterConfig(const ConfigEnvironment& environment);

// "https://HOST:PORT", with brackets around an IPv6 address.
std::string ServiceUrl(const std::string& host, const std::string& port);

}  // namespace muster::k8s
