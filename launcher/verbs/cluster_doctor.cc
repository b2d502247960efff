// `launcher doctor --platform kubernetes`: whether jobs can be run in a namespace, and what can be seen of the cluster.
#include <charconv>
#include <nlohmann/json.hpp>

#include "k8s/client/json_fields.h"
#include "launcher/job/store.h"
#include "launcher/platform/kubernetes/access.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/doctor.h"

namespace muster {
namespace {

using k8s::At;
using k8s::StringAt;
using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{15};
constexpr std::chrono::seconds kReviewTime{60};  // some 40 questions
constexpr int kOldestMinor = 29;
constexpr const char* kHidden = "cannot be seen with these rights";

const k8s::Resource kNodePools{
    .group = "karpenter.sh", .version = "v1", .plural = "nodepools", .namespaced = false};

std::string Hidden(const Error& error) {
  return error.code == Code::kPermissionDenied ? kHidden : error.message;
}

// "29+" is 29.
int NumberIn(const std::string& text) {
  int number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Finding CheckVersion(const json& version, const std::string& server) {
  const std::string name = StringAt(version, {"gitVersion"});
  const int major = NumberIn(StringAt(version, {"major"}));
  const bool ok = major > 1 || NumberIn(StringAt(version, {"minor"})) >= kOldestMinor;
  return {
      "cluster", ok,
      ok ? fmt::format("Kubernetes {} at {}", name, server)
         : fmt::format("Kubernetes {} at {}; 1.{} or newer is needed", name, server, kOldestMinor)};
}

Finding CheckRights(k8s::ApiClient& api, const std::string& space, bool own_account) {
  const auto missing = kubernetes::MissingRights(api, space, kubernetes::RightsToRun(own_account),
                                                 k8s::Within(kReviewTime));
  if (!missing) return {"rights", false, missing.error().message};
  if (missing->empty()) return {"rights", true, "all that jobs need in namespace " + space};
  return {"rights", false,
          fmt::format("missing in namespace {}: {}; `launcher render --rbac -n {} --user YOU` "
                      "prints what an administrator can give",
                      space, kubernetes::RightsText(*missing), space)};
}

// A job like any other, to be checked as if it were to run.
kubernetes::ClusterRun SampleRun(const Invocation& invocation, const std::string& space) {
  kubernetes::ClusterRun run{.namespace_name = space,
                             .image = "muster:doctor",
                             .service_account = invocation.Get("service-account")};
  run.spec.name = "doctor";
  run.spec.id = RandomHex(16);
  run.spec.executable = "/bin/true";
  run.spec.argv = {"/bin/true"};
  run.spec.cwd = kubernetes::kWorkFolder;
  return run;
}

Finding CheckObjects(k8s::ApiClient& api, const kubernetes::ClusterRun& run) {
  const auto verdicts = kubernetes::CheckRun(api, run, RandomHex(32));
  if (!verdicts) return {"dry run", false, verdicts.error().message};
  for (const auto& [kind, name, answer] : *verdicts) {
    if (!answer) return {"dry run", false, answer.error().message};
  }
  return {"dry run", true, "the cluster would take all objects of a job"};
}

Finding CheckPodSecurity(k8s::ApiClient& api, const std::string& space) {
  const char* meets = "pods of jobs meet \"restricted\", the strictest level";
  const auto object = api.Get({k8s::kNamespaces, "", space, ""}, k8s::Within(kAnswerTime));
  if (!object) {
    const bool gone = object.error().code == Code::kNotFound;
    return {"pod security", !gone,
            gone ? fmt::format("there is no namespace {}", space)
                 : fmt::format("the namespace's level {}; {}", Hidden(object.error()), meets)};
  }
  const std::string level =
      StringAt(*object, {"metadata", "labels", "pod-security.kubernetes.io/enforce"});
  return {"pod security", true,
          level.empty() ? "the namespace enforces no level" : level + " is enforced; " + meets};
}

// Of a quantity that counts objects; -1 for others.
int64_t CountOf(const std::string& quantity) {
  int64_t count = -1;
  const char* end = quantity.data() + quantity.size();
  const auto [last, error] = std::from_chars(quantity.data(), end, count);
  return error == std::errc{} && last == end ? count : -1;
}

bool CountsObjects(const std::string& key) {
  return key == "pods" || key == "configmaps" || key == "secrets" || key == "services" ||
         key.starts_with("count/");
}

Finding CheckQuota(k8s::ApiClient& api, const std::string& space) {
  const auto list = api.List(k8s::kResourceQuotas, space, {}, k8s::Within(kAnswerTime));
  if (!list) return {"quota", true, Hidden(list.error())};
  Finding finding{"quota", true, ""};
  for (const json& quota : list->items) {
    const json& hard = At(quota, {"status", "hard"});
    if (!hard.is_object()) continue;
    for (const auto& [key, limit] : hard.items()) {
      const std::string used = StringAt(quota, {"status", "used", key.c_str()});
      const std::string most = limit.is_string() ? limit.get<std::string>() : limit.dump();
      const bool full = CountsObjects(key) && CountOf(most) >= 0 && CountOf(used) >= CountOf(most);
      finding.ok &= !full;
      finding.detail += fmt::format("{}{} {} of {}{}", finding.detail.empty() ? "" : ", ", key,
                                    used, most, full ? " (used up)" : "");
    }
  }
  if (finding.detail.empty()) finding.detail = "none";
  return finding;
}

bool IsReady(const json& node) {
  if (At(node, {"spec", "unschedulable"}) == json(true)) return false;
  const json& conditions = At(node, {"status", "conditions"});
  if (!conditions.is_array()) return false;
  for (const json& condition : conditions) {
    if (StringAt(condition, {"type"}) == "Ready") return StringAt(condition, {"status"}) == "True";
  }
  return false;
}

Finding CheckNodes(k8s::ApiClient& api) {
  const auto list = api.List(k8s::kNodes, "", {}, k8s::Within(kAnswerTime));
  if (!list) return {"nodes", true, Hidden(list.error())};
  int ready = 0;
  int64_t gpus = 0;
  for (const json& node : list->items) {
    if (!IsReady(node)) continue;
    ++ready;
    gpus +=
        std::max<int64_t>(0, CountOf(StringAt(node, {"status", "allocatable", "nvidia.com/gpu"})));
  }
  return {"nodes", true,
          fmt::format("{} of {} take pods, with {} GPUs", ready, list->items.size(), gpus)};
}

Finding CheckAutoscaler(k8s::ApiClient& api) {
  const auto pools = api.List(kNodePools, "", {}, k8s::Within(kAnswerTime));
  if (pools && !pools->items.empty()) {
    return {"autoscaler", true, fmt::format("Karpenter with {} node pools", pools->items.size())};
  }
  const auto status = api.Get({k8s::kConfigMaps, "kube-system", "cluster-autoscaler-status", ""},
                              k8s::Within(kAnswerTime));
  if (status) return {"autoscaler", true, "the cluster autoscaler"};
  const bool hidden = (!pools && pools.error().code == Code::kPermissionDenied) ||
                      status.error().code == Code::kPermissionDenied;
  return {"autoscaler", true, hidden ? kHidden : "none is seen: jobs get the nodes that there are"};
}

}  // namespace

Result<int> RunClusterDoctor(const Invocation& invocation) {
  MUSTER_ASSIGN(ClusterTarget target, ChooseTarget(invocation));
  const std::string space = target.place.namespace_name;
  const std::string server =
      fmt::format("{} ({})", target.config.cluster.server, target.config.origin);
  MUSTER_ASSIGN(const auto api, k8s::ApiClient::Create(std::move(target.config)));
  // Once: who asks a doctor wants to know what is wrong now.
  const auto version = api->GetDocument("/version", k8s::OnceWithin(kAnswerTime));
  if (!version) {
    const Finding unreached{"cluster", false,
                            fmt::format("{}: {}", server, version.error().ToString())};
    return ReportFindings(invocation, {unreached}, ClusterExitCode(Code::kUnavailable));
  }
  const kubernetes::ClusterRun run = SampleRun(invocation, space);
  return ReportFindings(
      invocation,
      {CheckVersion(*version, server), CheckRights(*api, space, run.service_account.empty()),
       CheckObjects(*api, run), CheckPodSecurity(*api, space), CheckQuota(*api, space),
       CheckNodes(*api), CheckAutoscaler(*api), CheckHome()});
}

}  // namespace muster
