#include "launcher/platform/kubernetes/objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kFile = R"(
name: demo
program: {path: digits}
environment: {LEVEL: "010", COST: $$5 of $(MUSTER_POD_IP)}
pools:
  - name: big
    workers: 0:8
    device: {kind: gpu, count: 4}
    instance_types: [p5.48xlarge, a3-highgpu-8g]
    node_selector: {topology.kubernetes.io/zone: eu-1a}
    capacity: spot
    priority_class: low
    growth: step 2
    drain: avoid
    resources: {cpu: 1.25, memory: 1.5Gi}
  - name: base
    workers: 2
)";

ClusterRun MakeRun(std::string_view text = kFile) {
  ClusterRun run;
  run.file = ParseJobFile(text).value();
  run.spec.name = run.file.name.value();
  run.spec.id = "0123456789abcdef0123456789abcdef";
  run.spec.executable = "/bin/digits";
  run.spec.argv = {"digits"};
  run.spec.cwd = "/";
  run.spec.environment = run.file.environment;
  run.spec.min_workers = run.file.TotalWorkers()->min;
  run.spec.max_workers = run.file.TotalWorkers()->max;
  run.namespace_name = "team";
  run.image = "registry.example/muster:1";
  run.owner_uid = "uid-1";
  run.coordinator_ip = "10.0.0.7";
  return run;
}

// The first worker of the pool with that name.
Json Worker(const ClusterRun& run, const std::string& name) {
  for (const Pool& pool : PoolsOf(run)) {
    if (pool.name == name) return WorkerPod(run, pool, 0);
  }
  ADD_FAILURE() << "no pool " << name;
  return {};
}

std::vector<Json> OwnedObjects(const ClusterRun& run) {
  std::vector<Json> objects = CoordinatorRights(run);
  objects.push_back(RunSecret(run, "s3cret"));
  objects.push_back(CoordinatorService(run));
  objects.push_back(CoordinatorJob(run));
  for (const Pool& pool : PoolsOf(run)) objects.push_back(WorkerPod(run, pool, 0));
  return objects;
}

Json CoordinatorPod(const ClusterRun& run) { return CoordinatorJob(run)["spec"]["template"]; }

std::string At(const Json& object, const char* pointer) {
  const Json::json_pointer at(pointer);
  return object.contains(at) ? object.at(at).dump() : "nothing";
}

// The value or reference of a variable; "nothing" if it is not there.
std::string Environment(const Json& pod, const std::string& name) {
  for (const Json& variable : pod["spec"]["containers"][0]["env"]) {
    if (variable["name"] != name) continue;
    return variable.contains("value") ? variable["value"].get<std::string>()
                                      : At(variable, "/valueFrom/fieldRef/fieldPath");
  }
  return "nothing";
}

TEST(Objects, ConfigMapHoldsTheJob) {
  const ClusterRun run = MakeRun();
  const Json object = RunConfigMap(run);
  EXPECT_EQ(At(object, "/metadata"),
            R"({"name":"demo-01234","namespace":"team","labels":{)"
            R"("app.kubernetes.io/managed-by":"muster","muster.dev/job":"demo",)"
            R"("muster.dev/run":"0123456789ab"}})");
  EXPECT_EQ(JobSpec::FromJson(object["data"]["job.json"].get<std::string>()).value(), run.spec);
  EXPECT_EQ(ParseJobFile(object["data"]["job-file.json"].get<std::string>()).value(), run.file);
  EXPECT_EQ(object["data"]["image"], run.image);
}

TEST(Objects, AllButTheConfigMapAreOwnedByItAlone) {
  const ClusterRun run = MakeRun();
  for (const Json& object : OwnedObjects(run)) {
    EXPECT_EQ(At(object, "/metadata/ownerReferences"),
              R"([{"apiVersion":"v1","kind":"ConfigMap","name":"demo-01234","uid":"uid-1",)"
              R"("controller":true}])")
        << object["kind"];
    EXPECT_EQ(At(object, "/metadata/namespace"), "\"team\"") << object["kind"];
    const Json labels = object["metadata"]["labels"];
    EXPECT_EQ(labels[kManagedByLabel], "muster") << object["kind"];
    EXPECT_EQ(labels[kJobLabel], "demo") << object["kind"];
    EXPECT_EQ(labels[kRunLabel], "0123456789ab") << object["kind"];
  }
}

TEST(Objects, OnlyTheSecretHoldsTheSecret) {
  const ClusterRun run = MakeRun();
  EXPECT_EQ(At(RunSecret(run, "s3cret"), "/stringData"), R"({"secret":"s3cret"})");
  std::vector<std::string> others{RunConfigMap(run).dump()};
  for (const Json& object : OwnedObjects(run)) {
    if (object["kind"] != "Secret") others.push_back(object.dump());
  }
  EXPECT_THAT(others, Each(Not(HasSubstr("s3cret"))));
}

TEST(Objects, SecretIsAFileOfCoordinatorAndWorkers) {
  const ClusterRun run = MakeRun();
  for (const Json& pod : {CoordinatorPod(run), Worker(run, "big"), Worker(run, "base")}) {
    EXPECT_EQ(At(pod, "/spec/volumes/0"),
              R"({"name":"secret","secret":{"secretName":"demo-01234","defaultMode":288}})");
    EXPECT_EQ(At(pod, "/spec/containers/0/volumeMounts/0"),
              R"({"name":"secret","mountPath":"/muster/secret","readOnly":true})");
  }
}

TEST(Objects, ServiceSelectsTheCoordinatorOnly) {
  const ClusterRun run = MakeRun();
  const Json object = CoordinatorService(run);
  EXPECT_EQ(At(object, "/spec/selector"), At(CoordinatorPod(run), "/metadata/labels"));
  EXPECT_NE(object["spec"]["selector"][kComponentLabel],
            Worker(run, "base")["metadata"]["labels"][kComponentLabel]);
  EXPECT_EQ(At(object, "/spec/type"), "\"ClusterIP\"");
  EXPECT_EQ(At(object, "/spec/ports"),
            R"([{"name":"grpc","port":7070,"targetPort":7070,"protocol":"TCP"},)"
            R"({"name":"http","port":7071,"targetPort":7071,"protocol":"TCP"}])");
}

TEST(Objects, JobKeepsOneCoordinatorAndIgnoresEvictions) {
  const Json object = CoordinatorJob(MakeRun());
  EXPECT_EQ(object["metadata"]["name"], "demo-01234-coordinator");
  Json spec = object["spec"];
  const Json pod = spec["template"]["spec"];
  spec.erase("template");
  EXPECT_EQ(spec.dump(),
            R"({"parallelism":1,"completions":1,"backoffLimit":1000,)"
            R"("podReplacementPolicy":"Failed","podFailurePolicy":{"rules":[{"action":"Ignore",)"
            R"("onPodConditions":[{"type":"DisruptionTarget","status":"True"}]}]}})");
  EXPECT_EQ(pod["restartPolicy"], "Never");  // podFailurePolicy needs it
  EXPECT_EQ(At(pod, "/containers/0/command"),
            R"(["launcher","coordinator","--platform","kubernetes"])");
}

TEST(Objects, OnlyTheCoordinatorMayCallTheApiServer) {
  ClusterRun run = MakeRun();
  EXPECT_EQ(At(CoordinatorPod(run), "/spec/automountServiceAccountToken"), "true");
  EXPECT_EQ(At(CoordinatorPod(run), "/spec/serviceAccountName"), "\"demo-01234\"");
  for (const char* pool : {"big", "base"}) {
    EXPECT_EQ(At(Worker(run, pool), "/spec/automountServiceAccountToken"), "false");
    EXPECT_EQ(At(Worker(run, pool), "/spec/serviceAccountName"), "nothing");
  }
  run.service_account = "robot";
  EXPECT_EQ(At(CoordinatorPod(run), "/spec/serviceAccountName"), "\"robot\"");
  EXPECT_TRUE(CoordinatorRights(run).empty());
}

// The restricted Pod Security Standard (kubernetes.io, concepts/security/pod-security-standards), and a root that cannot be written.
TEST(Objects, PodsMeetTheRestrictedStandard) {
  const ClusterRun run = MakeRun();
  for (const Json& pod : {CoordinatorPod(run), Worker(run, "big"), Worker(run, "base")}) {
    const Json& spec = pod["spec"];
    EXPECT_EQ(At(spec, "/securityContext"),
              R"({"runAsNonRoot":true,"runAsUser":65532,"runAsGroup":65532,"fsGroup":65532,)"
              R"("seccompProfile":{"type":"RuntimeDefault"}})");
    EXPECT_EQ(spec["containers"].size(), 1U);
    EXPECT_EQ(At(spec, "/containers/0/securityContext"),
              R"({"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,)"
              R"("capabilities":{"drop":["ALL"]}})");
    for (const char* key : {"hostNetwork", "hostPID", "hostIPC", "initContainers"}) {
      EXPECT_FALSE(spec.contains(key)) << key;
    }
    EXPECT_EQ(At(spec, "/volumes/1"), R"({"name":"job","emptyDir":{"medium":"Memory"}})");
    EXPECT_EQ(At(spec, "/volumes/2"), R"({"name":"tmp","emptyDir":{"medium":"Memory"}})");
    EXPECT_EQ(spec["volumes"].size(), 3U);
    EXPECT_EQ(At(spec, "/enableServiceLinks"), "false");
  }
}

TEST(Objects, PodsOfAPoolDifferInNameAndSerialOnly) {
  const ClusterRun run = MakeRun();
  for (const Pool& pool : PoolsOf(run)) {
    Json one = WorkerPod(run, pool, 1);
    Json other = WorkerPod(run, pool, 20);
    EXPECT_EQ(one["metadata"]["name"], "demo-01234-" + pool.name + "-1");
    EXPECT_EQ(one["metadata"]["annotations"][kSerialAnnotation], "1");
    EXPECT_NE(one, other);
    for (Json* pod : {&one, &other}) {
      (*pod)["metadata"].erase("name");
      (*pod)["metadata"].erase("annotations");
    }
    EXPECT_EQ(one.dump(), other.dump());
  }
}

TEST(Objects, DrainIsSaidToBothAutoscalers) {
  const ClusterRun run = MakeRun();
  EXPECT_EQ(At(Worker(run, "big"), "/metadata/annotations"),
            R"({"cluster-autoscaler.kubernetes.io/safe-to-evict":"false",)"
            R"("karpenter.sh/do-not-disrupt":"true","muster.dev/serial":"0"})");
  EXPECT_EQ(At(Worker(run, "base"), "/metadata/annotations"),
            R"({"cluster-autoscaler.kubernetes.io/safe-to-evict":"true","muster.dev/serial":"0"})");
}

TEST(Objects, WorkerGoesWhereThePoolSays) {
  const ClusterRun run = MakeRun();
  const Json spec = Worker(run, "big")["spec"];
  EXPECT_EQ(At(spec, "/nodeSelector"), R"({"topology.kubernetes.io/zone":"eu-1a"})");
  EXPECT_EQ(At(spec, "/affinity"),
            R"({"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":)"
            R"({"nodeSelectorTerms":[{"matchExpressions":[)"
            R"({"key":"node.kubernetes.io/instance-type","operator":"In",)"
            R"("values":["p5.48xlarge","a3-highgpu-8g"]},)"
            R"({"key":"karpenter.sh/capacity-type","operator":"In","values":["spot"]}]}]}}})");
  EXPECT_EQ(At(spec, "/tolerations/2"),
            R"({"key":"nvidia.com/gpu","operator":"Exists","effect":"NoSchedule"})");
  EXPECT_EQ(At(spec, "/priorityClassName"), "\"low\"");
  for (const char* key : {"/nodeSelector", "/affinity", "/tolerations/2", "/priorityClassName"}) {
    EXPECT_EQ(At(Worker(run, "base")["spec"], key), "nothing");
  }
}

TEST(Objects, WorkersOfALostNodeAreReplacedSoon) {
  const Json spec = Worker(MakeRun(), "base")["spec"];
  EXPECT_EQ(At(spec, "/tolerations"),
            R"([{"key":"node.kubernetes.io/not-ready","operator":"Exists",)"
            R"("effect":"NoExecute","tolerationSeconds":10},)"
            R"({"key":"node.kubernetes.io/unreachable","operator":"Exists",)"
            R"("effect":"NoExecute","tolerationSeconds":10}])");
}

TEST(Objects, ResourcesAreThoseOfAllWorkersOfThePod) {
  EXPECT_EQ(At(Worker(MakeRun(), "big"), "/spec/containers/0/resources"),
            R"({"requests":{"cpu":"5","memory":"6Gi"},)"
            R"("limits":{"memory":"6Gi","nvidia.com/gpu":"4"}})");
  EXPECT_EQ(At(Worker(MakeRun(), "base"), "/spec/containers/0/resources"), "nothing");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"500m", "1500m"}, {"0.5", "1.5"}, {"0.350", "1.05"},
      {"20", "60"},      {"4.0", "12"},  {"99999999999999999.9", "299999999999999999.7"}};
  for (const auto& [one, three] : cases) {
    ClusterRun run = MakeRun();
    run.file.pools[1].cpu = one;
    run.file.pools[1].device_count = 3;
    EXPECT_EQ(At(Worker(run, "base"), "/spec/containers/0/resources/requests/cpu"),
              "\"" + three + "\"");
  }
}

TEST(Objects, WorkerKnowsTheJobsEnvironmentItselfAndTheCoordinator) {
  ClusterRun run = MakeRun();
  const Json pod = Worker(run, "big");
  EXPECT_EQ(Environment(pod, "LEVEL"), "010");
  EXPECT_EQ(Environment(pod, "COST"), "$$$$5 of $$(MUSTER_POD_IP)");  // Kubernetes would replace it
  EXPECT_EQ(Environment(pod, "MUSTER_RUN"), "demo-01234");
  EXPECT_EQ(Environment(pod, "MUSTER_POD_IP"), "\"status.podIP\"");
  EXPECT_EQ(Environment(pod, "MUSTER_POD_NAME"), "\"metadata.name\"");
  EXPECT_EQ(Environment(pod, "MUSTER_NAMESPACE"), "\"metadata.namespace\"");
  EXPECT_EQ(Environment(pod, "MUSTER_COORDINATOR"), "10.0.0.7:7070");
  EXPECT_EQ(Environment(pod, "MUSTER_DEVICES"), "4");
  EXPECT_EQ(Environment(pod, "MUSTER_GPU_EXPECTED"), "1");
  EXPECT_EQ(Environment(Worker(run, "base"), "MUSTER_GPU_EXPECTED"), "nothing");
  EXPECT_EQ(At(pod, "/spec/containers/0/command"),
            R"(["launcher","agent","--platform","kubernetes"])");
  EXPECT_EQ(Environment(CoordinatorPod(run), "LEVEL"), "nothing");
  run.coordinator_ip = "fd00::7";
  EXPECT_EQ(Environment(Worker(run, "big"), "MUSTER_COORDINATOR"), "[fd00::7]:7070");
}

TEST(Objects, WithoutPoolsThereIsOne) {
  const ClusterRun run = MakeRun("name: demo\nworkers: 2:5\nprogram: {path: digits}\n");
  ASSERT_EQ(PoolsOf(run).size(), 1U);
  EXPECT_EQ(PoolsOf(run)[0].workers, (WorkerRange{2, 5}));
  EXPECT_EQ(Worker(run, "workers")["metadata"]["name"], "demo-01234-workers-0");
}

// --- Rights ---

bool Covers(const Json& rule, const std::string& group, const std::string& resource,
            const std::string& verb) {
  const auto has = [&rule](const char* key, const std::string& word) {
    return std::find(rule[key].begin(), rule[key].end(), word) != rule[key].end();
  };
  return !rule.contains("resourceNames") && has("apiGroups", group) && has("resources", resource) &&
         has("verbs", verb);
}

TEST(Rights, OfTheCoordinatorAreTheLeastThatItNeeds) {
  const auto rights = CoordinatorRights(MakeRun());
  ASSERT_EQ(rights.size(), 3U);
  EXPECT_EQ(rights[0]["kind"], "ServiceAccount");
  std::vector<std::string> rules;
  for (const Json& rule : rights[1]["rules"]) rules.push_back(rule.dump());
  EXPECT_THAT(
      rules,
      ElementsAre(
          R"({"apiGroups":[""],"resources":["pods"],"verbs":["create","delete","get","list","watch"]})",
          R"({"apiGroups":[""],"resources":["configmaps"],"verbs":["get","patch","update"],"resourceNames":["demo-01234"]})",
          R"({"apiGroups":[""],"resources":["events"],"verbs":["list","watch"]})",
          R"({"apiGroups":[""],"resources":["services"],"verbs":["get"],"resourceNames":["demo-01234"]})"));
  EXPECT_EQ(At(rights[2], "/roleRef"),
            R"({"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"demo-01234"})");
  EXPECT_EQ(At(rights[2], "/subjects"),
            R"([{"kind":"ServiceAccount","name":"demo-01234","namespace":"team"}])");
}

// Kubernetes refuses a Role with rights that its maker does not have.
TEST(Rights, OfAUserIncludeThoseOfTheCoordinator) {
  const auto user = Rbac("team", "ada");
  ASSERT_EQ(user.size(), 2U);
  EXPECT_EQ(At(user[1], "/subjects"),
            R"([{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"ada"}])");
  EXPECT_EQ(At(user[1], "/metadata/namespace"), "\"team\"");
  const Json& rules = user[0]["rules"];
  const Json coordinator = CoordinatorRights(MakeRun())[1]["rules"];
  EXPECT_EQ(coordinator.size(), 4U);
  for (const Json& rule : coordinator) {
    for (const Json& verb : rule["verbs"]) {
      EXPECT_TRUE(std::any_of(rules.begin(), rules.end(),
                              [&](const Json& mine) {
                                return Covers(mine, rule["apiGroups"][0], rule["resources"][0],
                                              verb);
                              }))
          << verb << " " << rule;
    }
  }
}

TEST(Rights, OfAUserCoverAllThatARunCreates) {
  const Json rules = Rbac("team", "ada")[0]["rules"];
  const std::vector<std::pair<std::string, std::string>> needed = {
      {"", "configmaps"},
      {"", "secrets"},
      {"", "services"},
      {"batch", "jobs"},
      {"", "pods"},
      {"", "serviceaccounts"},
      {"", "services/proxy"},
      {"rbac.authorization.k8s.io", "roles"},
      {"rbac.authorization.k8s.io", "rolebindings"}};
  for (const auto& [group, resource] : needed) {
    EXPECT_TRUE(std::any_of(rules.begin(), rules.end(), [&](const Json& rule) {
      return Covers(rule, group, resource, "create");
    })) << resource;
  }
}

// --- Names ---

bool IsLabel(const std::string& name) {
  return IsJobName(name) && name[0] >= 'a' && name[0] <= 'z';  // as Services need it (RFC 1035)
}

JobSpec Named(const std::string& name) {
  JobSpec spec;
  spec.name = name;
  spec.id = "fedcba98765432100123456789abcdef";
  return spec;
}

TEST(Names, AreLabelsForTheLongestJobsAndPools) {
  const std::vector<std::string> names = {"a",
                                          "7",
                                          std::string(63, 'x'),
                                          std::string(63, '9'),
                                          "a" + std::string(61, '-') + "b",
                                          std::string(24, 'x') + "-" + std::string(38, 'y')};
  for (const std::string& job : names) {
    EXPECT_TRUE(IsLabel(RunName(Named(job)))) << RunName(Named(job));
    // The Job controller adds a dash and 5 letters.
    EXPECT_TRUE(IsLabel(CoordinatorName(Named(job)) + "-abcde")) << CoordinatorName(Named(job));
    for (const std::string& pool : names) {
      const std::string name = WorkerName(Named(job), pool, kMaxSerial);
      EXPECT_TRUE(IsLabel(name)) << name;
    }
  }
  EXPECT_EQ(WorkerName(Named(std::string(25, 'x')), std::string(20, 'y'), kMaxSerial).size(), 63U);
}

TEST(Names, ThatAreShortenedStayApart) {
  const std::string begin(60, 'x');
  EXPECT_NE(RunName(Named(begin + "a")), RunName(Named(begin + "b")));
  EXPECT_NE(WorkerName(Named("j"), begin + "a", 1), WorkerName(Named("j"), begin + "b", 1));
  EXPECT_EQ(RunName(Named(begin + "a")), RunName(Named(begin + "a")));
  EXPECT_EQ(RunName(Named("9to5")), "m-9to5-fedcb");
  EXPECT_EQ(WorkerName(Named("digits"), "spot", 12), "digits-fedcb-spot-12");
}

}  // namespace
}  // namespace muster::kubernetes
