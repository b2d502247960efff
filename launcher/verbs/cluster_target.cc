#include "launcher/verbs/cluster_target.h"

#include <filesystem>
#include <utility>

#include "k8s/client/config_loader.h"
#include "launcher/jobfile/reader.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

// The image that is built with this launcher.
constexpr const char* kDefaultImage = "muster:" MUSTER_VERSION;
constexpr int kClusterExitCode = 5;

// The value of `flag`, if it is given, must be `good`.
Status CheckName(const Invocation& invocation, const std::string& flag,
                 bool (*good)(std::string_view)) {
  const std::string value = invocation.Get(flag);
  if (!invocation.Has(flag) || good(value)) return {};
  return Err(Code::kInvalidArgument, "--{} is \"{}\", which is no {}'s name", flag,
             value.substr(0, 100), flag);
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  return std::filesystem::absolute(path, error).lexically_normal().string();
}

// The one kubeconfig file that counts, absolute; empty if there are several or the standard one.
std::string KubeconfigFile(const Invocation& invocation, const k8s::ConfigEnvironment& here) {
  if (invocation.Has("kubeconfig")) return Absolute(invocation.Get("kubeconfig"));
  const bool one = !here.kubeconfig.empty() && here.kubeconfig.find(':') == std::string::npos;
  return one ? Absolute(here.kubeconfig) : "";
}

}  // namespace

std::vector<OptionSpec> ClusterOptions() {
  return {{'n', "namespace", "NS", "Kubernetes: the namespace (default: that of the context)"},
          {0, "kubeconfig", "FILE", "Kubernetes: instead of $KUBECONFIG and ~/.kube/config"},
          {0, "context", "NAME", "Kubernetes: instead of the current context"}};
}

std::vector<OptionSpec> ImageOptions() {
  return {{0, "image", "IMAGE", "Kubernetes: image of all containers; over that of the job file"},
          {0, "service-account", "NAME",
           "Kubernetes: run the coordinator as this one; none is made for it"}};
}

bool NamesCluster(const Invocation& invocation) {
  return invocation.Has("namespace") || invocation.Has("kubeconfig") || invocation.Has("context");
}

Result<bool> IsForKubernetes(const Invocation& invocation) {
  if (!invocation.Has("platform")) return NamesCluster(invocation);
  const std::string platform = invocation.Get("platform");
  if (platform == "kubernetes") return true;
  if (platform != "local") {
    return Err(Code::kInvalidArgument, "--platform is \"{}\", it must be local or kubernetes",
               platform);
  }
  return false;
}

Result<std::string> NamespaceOf(const Invocation& invocation, const std::string& otherwise) {
  if (!invocation.Has("namespace")) return otherwise;
  const std::string name = invocation.Get("namespace");
  if (IsJobName(name)) return name;  // both are DNS labels
  return Err(
      Code::kInvalidArgument,
      "--namespace is \"{}\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
      "letter or digit",
      name.substr(0, 100));
}

Result<ClusterTarget> ChooseTarget(const Invocation& invocation) {
  const auto here = k8s::ConfigEnvironment::OfThisProcess();
  ClusterTarget target;
  target.place.kubeconfig = KubeconfigFile(invocation, here);
  MUSTER_ASSIGN(target.config, k8s::LoadClientConfig({.kubeconfig = invocation.Get("kubeconfig"),
                                                      .context = invocation.Get("context")},
                                                     here));
  target.place.context = target.config.context;
  MUSTER_ASSIGN(target.place.namespace_name, NamespaceOf(invocation, target.config.namespace_name));
  return target;
}

Result<k8s::ClientConfig> ConfigOf(const ClusterPlace& place) {
  return k8s::LoadClientConfig({.kubeconfig = place.kubeconfig,
                                .context = place.context,
                                .namespace_name = place.namespace_name},
                               k8s::ConfigEnvironment::OfThisProcess());
}

Result<ClusterPlan> PlanClusterRun(const Invocation& invocation,
                                   const std::string& namespace_name) {
  ClusterPlan plan;
  MUSTER_TRY(CheckName(invocation, "image", IsImageName));
  MUSTER_TRY(CheckName(invocation, "service-account", IsObjectName));
  MUSTER_ASSIGN(plan.job, PlanRun(invocation, PlanFor::kCluster));
  plan.run = {.spec = plan.job.spec,
              .file = plan.job.file,
              .namespace_name = namespace_name,
              .service_account = invocation.Get("service-account"),
              .owner_uid = "<uid of the ConfigMap>",
              .coordinator_ip = "<ClusterIP of the Service>"};
  kubernetes::ClusterRun& run = plan.run;
  run.spec.id = std::string(32, '0');
  if (!plan.job.sources.empty()) {
    MUSTER_ASSIGN(plan.bundle, LocalBundle::Create(plan.job.sources));
    run.spec.bundle = plan.bundle->hash();
  }
  run.image =
      invocation.Has("image") ? invocation.Get("image") : run.file.image.value_or(kDefaultImage);
  return plan;
}

int ClusterExitCode(Code code) {
  switch (code) {
    case Code::kUnavailable:
    case Code::kDeadlineExceeded:
    case Code::kUnauthenticated:
    case Code::kPermissionDenied:
    case Code::kResourceExhausted:
      return kClusterExitCode;
    default:
      return ExitCodeOf(code);
  }
}

int ReportClusterFailure(std::string_view verb, const Error& error) {
  PrintError(fmt::format("launcher {}: {}\n", verb, error.message));
  if (!error.hint.empty()) PrintError(fmt::format("  {}\n", error.hint));
  return ClusterExitCode(error.code);
}

}  // namespace muster
