#include "k8s/client/config_loader.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "runtime/base/endpoint.h"
#include "runtime/base/files.h"

namespace muster::k8s {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxKubeconfigBytes = size_t{8} << 20;
constexpr size_t kMaxNamespaceBytes = 1024;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<fs::path> SplitPaths(std::string_view list) {
  std::vector<fs::path> paths;
  while (!list.empty()) {
    const size_t end = std::min(list.find(':'), list.size());
    const fs::path path(list.substr(0, end));
    if (!path.empty() && std::find(paths.begin(), paths.end(), path) == paths.end()) {
      paths.push_back(path);
    }
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return paths;
}

std::string Trimmed(std::string text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  return text;
}

Result<ClientConfig> Choose(const Result<Kubeconfig>& config, const ConfigChoice& choice) {
  if (!config) return tl::unexpected<Error>(config.error());
  MUSTER_ASSIGN(ClientConfig chosen, ChooseContext(*config, choice.context));
  if (!choice.namespace_name.empty()) chosen.namespace_name = choice.namespace_name;
  return chosen;
}

}  // namespace

ConfigEnvironment ConfigEnvironment::OfThisProcess() {
  return {.kubeconfig = Variable("KUBECONFIG"),
          .home = Variable("HOME"),
          .service_host = Variable("KUBERNETES_SERVICE_HOST"),
          .service_port = Variable("KUBERNETES_SERVICE_PORT")};
}

Result<Kubeconfig> ReadKubeconfigs(const std::vector<fs::path>& paths) {
  std::vector<Kubeconfig> configs;
  std::vector<std::string> missing;
  for (const fs::path& path : paths) {
    // Absolute, because what the file names relatively must not depend on the folder that we are in later.
    std::error_code error;
    const fs::path file = fs::absolute(path, error);
    const Result<std::string> text = ReadFile(file, kMaxKubeconfigBytes);
    if (!text && text.error().code == Code::kNotFound) {
      missing.push_back(file.string());
      continue;
    }
    if (!text)
      return WithHint(tl::unexpected<Error>(text.error()), "check the file's owner and mode");
    MUSTER_ASSIGN(Kubeconfig config, ParseKubeconfig(*text, file));
    configs.push_back(std::move(config));
  }
  if (configs.empty()) {
    return WithHint(Err(Code::kNotFound, "there is no kubeconfig at {}", fmt::join(missing, ", ")),
                    "set KUBECONFIG, or let your cluster's command line write ~/.kube/config");
  }
  return MergeKubeconfigs(configs);
}

Result<ClientConfig> LoadClientConfig(const ConfigChoice& choice,
                                      const ConfigEnvironment& environment) {
  if (!choice.kubeconfig.empty()) return Choose(ReadKubeconfigs({choice.kubeconfig}), choice);
  const std::vector<fs::path> listed = SplitPaths(environment.kubeconfig);
  if (!listed.empty()) return Choose(ReadKubeconfigs(listed), choice);
  const fs::path standard = fs::path(environment.home) / ".kube" / "config";
  std::error_code error;
  if (!environment.home.empty() && fs::exists(standard, error)) {
    return Choose(ReadKubeconfigs({standard}), choice);
  }
  if (!environment.service_host.empty()) {
    MUSTER_ASSIGN(ClientConfig config, InClusterConfig(environment));
    if (!choice.namespace_name.empty()) config.namespace_name = choice.namespace_name;
    return config;
  }
  return WithHint(Err(Code::kNotFound,
                      "no cluster is configured: KUBECONFIG is not set, {} is not "
                      "there, and this is no pod",
                      standard.string()),
                  "set KUBECONFIG, or let your cluster's command line write ~/.kube/config");
}

std::string ServiceUrl(const std::string& host, const std::string& port) {
  return "https://" + JoinHostPort(host, port.empty() ? "443" : port);
}

Result<ClientConfig> InClusterConfig(const ConfigEnvironment& environment) {
  if (environment.service_host.empty()) {
    return WithHint(Err(Code::kNotFound, "KUBERNETES_SERVICE_HOST is not set: this is no pod"),
                    "use a kubeconfig");
  }
  const fs::path& folder = environment.service_account;
  std::error_code error;
  if (!fs::exists(folder / "token", error)) {
    return WithHint(Err(Code::kFailedPrecondition,
                        "{} is not there: this pod has no token of a "
                        "service account",
                        (folder / "token").string()),
                    "set automountServiceAccountToken: true for this pod");
  }
  ClientConfig config;
  config.cluster.server = ServiceUrl(environment.service_host, environment.service_port);
  config.cluster.certificate_authority = folder / "ca.crt";
  config.user.token_file = folder / "token";
  const Result<std::string> own = ReadFile(folder / "namespace", kMaxNamespaceBytes);
  if (own && !Trimmed(*own).empty()) config.namespace_name = Trimmed(*own);
  config.origin = "the service account of this pod";
  return config;
}

}  // namespace muster::k8s
