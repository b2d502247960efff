// What runs: the coordinator's Job and the workers' pods. Both meet the restricted Pod Security Standard.
#include <algorithm>

#include "launcher/platform/kubernetes/metadata.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/endpoint.h"

namespace muster::kubernetes {
namespace {

constexpr int kUser = 65532;  // "nonroot" of the usual base images
// Only deaths of the coordinator itself count, not its evictions; training goes on without it, so it is never given up early.
constexpr int kBackoffLimit = 1000;
constexpr int kLostNodeSeconds = 10;  // until the pods of a node that is not heard of are deleted

// Kubernetes replaces $(NAME) in values, and $$ by $.
std::string Verbatim(const std::string& value) {
  std::string text;
  for (const char c : value) text += c == '$' ? "$$" : std::string(1, c);
  return text;
}

// `quantity` ("0.5", "500m", "1.5Gi") `count` times, exactly: digit by digit, the point stays where it is.
std::string Times(const std::string& quantity, int count) {
  const size_t suffix = std::min(quantity.find_first_not_of("0123456789."), quantity.size());
  std::string number;
  int carry = 0;
  for (size_t i = suffix; i-- > 0;) {
    if (quantity[i] == '.') {
      number.insert(0, 1, '.');
      continue;
    }
    carry += (quantity[i] - '0') * count;
    number.insert(0, 1, static_cast<char>('0' + carry % 10));
    carry /= 10;
  }
  if (carry > 0) number.insert(0, std::to_string(carry));
  if (number.find('.') != number.npos) {
    number.erase(number.find_last_not_of('0') + 1);
    if (number.ends_with('.')) number.pop_back();
  }
  return number + quantity.substr(suffix);
}

Json Variable(const std::string& name, const std::string& value) {
  return {{"name", name}, {"value", Verbatim(value)}};
}

// What the pod knows of itself only once it runs (the downward API); the same words in every pod.
Json FromField(const char* name, const char* path) {
  return {{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

void AddVariables(const ClusterRun& run, Json& environment) {
  environment.push_back(Variable("MUSTER_RUN", RunName(run.spec)));
  environment.push_back(Variable("MUSTER_JOB", run.spec.id));
  environment.push_back(Variable("MUSTER_HOME", std::string(kWorkFolder)));
  environment.push_back(FromField("MUSTER_NAMESPACE", "metadata.namespace"));
  environment.push_back(FromField("MUSTER_POD_NAME", "metadata.name"));
  environment.push_back(FromField("MUSTER_POD_IP", "status.podIP"));
}

// A container that can write to memory only.
Json Container(const ClusterRun& run, std::string_view name,
               const std::vector<std::string>& command, const Json& environment) {
  return {{"name", name},
          {"image", run.image},
          {"command", command},
          {"workingDir", kWorkFolder},
          {"env", environment},
          {"securityContext",
           {{"allowPrivilegeEscalation", false},
            {"readOnlyRootFilesystem", true},
            {"capabilities", {{"drop", Json::array({"ALL"})}}}}},
          {"volumeMounts",
           Json::array({{{"name", "secret"}, {"mountPath", kSecretFolder}, {"readOnly", true}},
                        {{"name", "job"}, {"mountPath", kWorkFolder}},
                        {{"name", "tmp"}, {"mountPath", "/tmp"}}})}};
}

Json PodSpec(const ClusterRun& run, bool token) {
  const Json memory = {{"medium", "Memory"}};
  // Readable by the group, which the pod's is by fsGroup.
  const Json secret = {{"secretName", RunName(run.spec)}, {"defaultMode", 0440}};
  return {{"automountServiceAccountToken", token},
          {"enableServiceLinks", false},
          {"restartPolicy", "Never"},
          {"terminationGracePeriodSeconds", kGraceSeconds},
          {"securityContext",
           {{"runAsNonRoot", true},
            {"runAsUser", kUser},
            {"runAsGroup", kUser},
            {"fsGroup", kUser},
            {"seccompProfile", {{"type", "RuntimeDefault"}}}}},
          {"volumes", Json::array({{{"name", "secret"}, {"secret", secret}},
                                   {{"name", "job"}, {"emptyDir", memory}},
                                   {{"name", "tmp"}, {"emptyDir", memory}}})}};
}

// Whether autoscalers may empty the node. What Cluster Autoscaler does by default depends on who owns a pod, so it is always told;
// Karpenter always may, and warns of a "false", because it takes durations beside "true" (1.14).
Json DrainAnnotations(bool allow) {
  Json annotations = {{"cluster-autoscaler.kubernetes.io/safe-to-evict", allow ? "true" : "false"}};
  if (!allow) annotations["karpenter.sh/do-not-disrupt"] = "true";
  return annotations;
}

Json Expression(const char* label, const std::vector<std::string>& values) {
  return {{"key", label}, {"operator", "In"}, {"values", values}};
}

// Expressions in one term must all hold; the terms of a list would be alternatives.
Json NodeAffinity(const Pool& pool) {
  Json expressions = Json::array();
  if (!pool.instance_types.empty()) {
    expressions.push_back(Expression("node.kubernetes.io/instance-type", pool.instance_types));
  }
  if (pool.capacity != "any") {
    expressions.push_back(Expression("karpenter.sh/capacity-type", {pool.capacity}));
  }
  if (expressions.empty()) return nullptr;
  const Json term = {{"matchExpressions", expressions}};
  const Json required = {{"nodeSelectorTerms", Json::array({term})}};
  return {{"nodeAffinity", {{"requiredDuringSchedulingIgnoredDuringExecution", required}}}};
}

// The file says what a worker needs, a pod has several of them. Cores are not limited: what is idle on a node is theirs.
Json Resources(const Pool& pool) {
  Json resources = Json::object();
  if (!pool.cpu.empty()) resources["requests"]["cpu"] = Times(pool.cpu, pool.device_count);
  if (!pool.memory.empty()) {
    resources["requests"]["memory"] = Times(pool.memory, pool.device_count);
    resources["limits"]["memory"] = resources["requests"]["memory"];
  }
  if (pool.gpu) resources["limits"]["nvidia.com/gpu"] = std::to_string(pool.device_count);
  return resources;
}

// The ring goes on without a lost node within seconds, and its pod should be replaced soon after; the default is five minutes.
Json Tolerations(const Pool& pool) {
  Json tolerations = Json::array();
  for (const char* lost : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
    tolerations.push_back({{"key", lost},
                           {"operator", "Exists"},
                           {"effect", "NoExecute"},
                           {"tolerationSeconds", kLostNodeSeconds}});
  }
  // GPU nodes usually repel what does not ask for a GPU.
  if (pool.gpu) {
    tolerations.push_back(
        {{"key", "nvidia.com/gpu"}, {"operator", "Exists"}, {"effect", "NoSchedule"}});
  }
  return tolerations;
}

Json WorkerContainer(const ClusterRun& run, const Pool& pool) {
  Json environment = Json::array();
  for (const auto& [name, value] : run.spec.environment) {
    environment.push_back(Variable(name, value));
  }
  AddVariables(run, environment);
  environment.push_back(
      Variable("MUSTER_COORDINATOR", JoinHostPort(run.coordinator_ip, kGrpcPort)));
  environment.push_back(Variable("MUSTER_POOL", pool.name));
  environment.push_back(Variable("MUSTER_DEVICES", std::to_string(pool.device_count)));
  if (pool.gpu) environment.push_back(Variable("MUSTER_GPU_EXPECTED", "1"));
  Json container = Container(run, kWorkerContainer, kAgentCommand, environment);
  const Json resources = Resources(pool);
  if (!resources.empty()) container["resources"] = resources;
  return container;
}

}  // namespace

Json CoordinatorJob(const ClusterRun& run) {
  const Json labels = Labels(run.spec, "coordinator");
  Json environment = Json::array();
  AddVariables(run, environment);
  Json container = Container(run, "coordinator", kCoordinatorCommand, environment);
  container["ports"] = Json::array({{{"name", "grpc"}, {"containerPort", kGrpcPort}},
                                    {{"name", "http"}, {"containerPort", kHttpPort}}});
  container["resources"] = {{"requests", {{"cpu", "250m"}, {"memory", "256Mi"}}}};
  Json pod = PodSpec(run, true);
  pod["serviceAccountName"] = run.service_account.empty() ? RunName(run.spec) : run.service_account;
  pod["containers"] = Json::array({container});

  const Json disrupted = {{"type", "DisruptionTarget"}, {"status", "True"}};
  const Json ignore = {{"action", "Ignore"}, {"onPodConditions", Json::array({disrupted})}};
  Json object = OwnedObject(run, "batch/v1", "Job", CoordinatorName(run.spec), labels);
  object["spec"] = {{"parallelism", 1},
                    {"completions", 1},
                    {"backoffLimit", kBackoffLimit},
                    {"podReplacementPolicy", "Failed"},  // never two coordinators at once
                    {"podFailurePolicy", {{"rules", Json::array({ignore})}}},
                    {"template",
                     {{"metadata", {{"labels", labels}, {"annotations", DrainAnnotations(true)}}},
                      {"spec", pod}}}};
  return object;
}

Json WorkerPod(const ClusterRun& run, const Pool& pool, int64_t serial) {
  Json labels = Labels(run.spec, "worker");
  labels[std::string(kPoolLabel)] = pool.name;
  Json object = OwnedObject(run, "v1", "Pod", WorkerName(run.spec, pool.name, serial), labels);
  Json annotations = DrainAnnotations(pool.drain);
  annotations[std::string(kSerialAnnotation)] = std::to_string(serial);
  object["metadata"]["annotations"] = annotations;
  Json spec = PodSpec(run, false);
  if (!pool.priority_class.empty()) spec["priorityClassName"] = pool.priority_class;
  if (!pool.node_selector.empty()) spec["nodeSelector"] = pool.node_selector;
  if (const Json affinity = NodeAffinity(pool); !affinity.is_null()) spec["affinity"] = affinity;
  spec["tolerations"] = Tolerations(pool);
  spec["containers"] = Json::array({WorkerContainer(run, pool)});
  object["spec"] = spec;
  return object;
}

}  // namespace muster::kubernetes
