#include "launcher/platform/kubernetes/run_objects.h"

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using k8s::StringAt;
using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{30};
// Stands for the uid that the ConfigMap would get.
constexpr const char* kNoUid = "00000000-0000-0000-0000-000000000000";

std::string KindOf(const Json& object) { return object.at("kind").get<std::string>(); }
std::string NameOf(const Json& object) {
  return object.at("metadata").at("name").get<std::string>();
}

k8s::Resource ResourceOf(const std::string& kind) {
  if (kind == "ConfigMap") return k8s::kConfigMaps;
  if (kind == "Secret") return k8s::kSecrets;
  if (kind == "ServiceAccount") return k8s::kServiceAccounts;
  if (kind == "Role") return k8s::kRoles;
  if (kind == "RoleBinding") return k8s::kRoleBindings;
  if (kind == "Service") return k8s::kServices;
  if (kind == "Job") return k8s::kJobs;
  return k8s::kPods;
}

// "POST /api/...: 403 Forbidden: ..." without the request, which the sentence around it names in other words.
std::string Answer(const std::string& message) {
  const size_t end = message.find(": ");
  return end == message.npos ? message : message.substr(end + 2);
}

// The error of a create, in words for the user who runs a job.
tl::unexpected<Error> Refused(const Json& object, const std::string& space, const Error& error) {
  const std::string kind = KindOf(object);
  const std::string what = fmt::format("{} {} in namespace {}", kind, NameOf(object), space);
  const std::string rights = fmt::format(
      "`launcher render --rbac -n {} --user YOU` prints the rights that an "
      "administrator can give you",
      space);
  const bool account = kind == "Role" || kind == "RoleBinding" || kind == "ServiceAccount";
  const auto refuse = [&](std::string_view sentence, const std::string& hint) {
    return WithHint(Err(error.code, "{} {}: {}", sentence, what, Answer(error.message)), hint);
  };
  switch (error.code) {
    case Code::kPermissionDenied:
      if (error.message.find("PodSecurity") != error.message.npos) break;
      return refuse("you may not make the",
                    account ? "--service-account NAME uses one that an administrator has "
                              "prepared; " +
                                  rights
                            : rights);
    case Code::kNotFound:
      return refuse("the cluster has no place for the", "name a namespace that is there: -n NS");
    case Code::kAlreadyExists:
      return refuse("there is another", "try again: every run has a name of its own");
    case Code::kInvalidArgument:
      return refuse("the cluster finds fault with the",
                    "launcher run --dry-run asks about all objects and makes none");
    default:
      break;
  }
  return refuse("the cluster does not make the", error.hint);
}

// Whether `there` is the object that we wanted to make: an answer of the server may have been lost.
bool IsOurs(const json& there, const Json& wanted) {
  if (KindOf(wanted) == "ConfigMap") {
    return k8s::At(there, {"data", kJobKey.data()}) == json(wanted.at("data").at(kJobKey.data()));
  }
  const json& owners = k8s::At(there, {"metadata", "ownerReferences"});
  return owners.is_array() && owners.size() == 1 &&
         StringAt(owners[0], {"uid"}) ==
             wanted.at("metadata").at("ownerReferences")[0].at("uid").get<std::string>();
}

Result<json> Make(k8s::ApiClient& api, const Json& object, const std::string& space,
                  const std::stop_token& stop) {
  k8s::ObjectRef where{.resource = ResourceOf(KindOf(object)), .namespace_name = space};
  Result<json> made = api.Create(where, json(object), {}, k8s::Within(kAnswerTime, stop));
  if (made) return made;
  if (made.error().code == Code::kAlreadyExists) {
    where.name = NameOf(object);
    Result<json> there = api.Get(where, k8s::Within(kAnswerTime, stop));
    if (there && IsOurs(*there, object)) return there;
  }
  if (made.error().code == Code::kCancelled) return made;
  return Refused(object, space, made.error());
}

// All but the ConfigMap, in the order in which they are made.
std::vector<Json> OwnedObjects(const ClusterRun& run, const std::string& secret) {
  std::vector<Json> objects{RunSecret(run, secret)};
  for (Json& object : CoordinatorRights(run)) objects.push_back(std::move(object));
  objects.push_back(CoordinatorService(run));
  objects.push_back(CoordinatorJob(run));
  return objects;
}

// The pod that the Job would make, as the namespace's default account, because that of the run is not there.
Json CoordinatorPod(const ClusterRun& run) {
  const Json job = CoordinatorJob(run);
  Json pod = {{"apiVersion", "v1"}, {"kind", "Pod"}, {"metadata", job.at("metadata")}};
  pod["metadata"]["labels"] = job.at("spec").at("template").at("metadata").at("labels");
  pod["spec"] = job.at("spec").at("template").at("spec");
  pod["spec"].erase("serviceAccountName");
  return pod;
}

Status AddNames(k8s::ApiClient& api, const std::string& space, const k8s::Resource& resource,
                const char* kind, const std::string& selector, std::vector<std::string>& names) {
  MUSTER_ASSIGN(const k8s::ObjectList list,
                api.List(resource, space, {.label_selector = selector}, k8s::Within(kAnswerTime)));
  for (const json& item : list.items) {
    names.push_back(fmt::format("{} {}", kind, StringAt(item, {"metadata", "name"})));
  }
  return {};
}

}  // namespace

std::string RunSelector(const JobSpec& spec) {
  return fmt::format("{}={}", kRunLabel, RunLabel(spec));
}

Result<std::string> MakeRun(k8s::ApiClient& api, ClusterRun run, const std::string& secret,
                            const std::stop_token& stop,
                            const std::function<void(const std::string& uid)>& on_owner) {
  MUSTER_ASSIGN(const json owner, Make(api, RunConfigMap(run), run.namespace_name, stop));
  run.owner_uid = StringAt(owner, {"metadata", "uid"});
  if (run.owner_uid.empty()) {
    return Err(Code::kDataLoss, "the cluster gave the ConfigMap {} no uid", RunName(run.spec));
  }
  on_owner(run.owner_uid);
  for (const Json& object : OwnedObjects(run, secret)) {
    MUSTER_TRY(Make(api, object, run.namespace_name, stop));
  }
  return run.owner_uid;
}

Result<std::vector<Verdict>> CheckRun(k8s::ApiClient& api, ClusterRun run,
                                      const std::string& secret) {
  run.owner_uid = kNoUid;
  run.coordinator_ip = "10.0.0.1";  // only the coordinator knows it
  std::vector<Json> objects = OwnedObjects(run, secret);
  objects.insert(objects.begin(), RunConfigMap(run));
  objects.push_back(CoordinatorPod(run));
  for (const Pool& pool : PoolsOf(run)) objects.push_back(WorkerPod(run, pool, 1));
  std::vector<Verdict> verdicts;
  for (const Json& object : objects) {
    const k8s::ObjectRef where{.resource = ResourceOf(KindOf(object)),
                               .namespace_name = run.namespace_name};
    const auto answer =
        api.Create(where, json(object), {.dry_run = true}, k8s::Within(kAnswerTime));
    // Whether the rights may be handed on is asked of the Role, and that is not there to be asked.
    const bool no_role = !answer && answer.error().code == Code::kNotFound &&
                         KindOf(object) == "RoleBinding" && verdicts.front().answer;
    const bool unreached = !answer && (answer.error().code == Code::kUnavailable ||
                                       answer.error().code == Code::kDeadlineExceeded ||
                                       answer.error().code == Code::kUnauthenticated);
    if (unreached) return tl::unexpected(answer.error());
    verdicts.push_back(
        {KindOf(object), NameOf(object),
         answer || no_role ? Status{} : Refused(object, run.namespace_name, answer.error())});
  }
  return verdicts;
}

Status RemoveRun(k8s::ApiClient& api, const std::string& namespace_name, const JobSpec& spec,
                 const std::string& uid) {
  const k8s::ObjectRef map{
      .resource = k8s::kConfigMaps, .namespace_name = namespace_name, .name = RunName(spec)};
  std::string owner = uid;
  if (owner.empty()) {
    const auto there = api.Get(map, k8s::Within(kAnswerTime));
    if (!there && there.error().code == Code::kNotFound) return {};
    if (!there) return tl::unexpected(there.error());
    if (k8s::At(*there, {"data", kJobKey.data()}) != json(spec.ToJson())) return {};
    owner = StringAt(*there, {"metadata", "uid"});
  }
  const Status deleted =
      api.Delete(map, {.uid = owner, .propagation = "Background"}, k8s::Within(kAnswerTime));
  // kAborted: another one has the name now.
  const bool gone = !deleted && (deleted.error().code == Code::kNotFound ||
                                 deleted.error().code == Code::kAborted);
  if (deleted || gone) return {};
  return WithHint(Err(deleted.error().code, "the run {} could not be deleted: {}", RunName(spec),
                      deleted.error().message),
                  fmt::format("delete it by hand: kubectl -n {} delete configmap {}",
                              namespace_name, RunName(spec)));
}

Result<std::vector<std::string>> WhatIsLeft(k8s::ApiClient& api, const std::string& namespace_name,
                                            const JobSpec& spec) {
  std::vector<std::string> names;
  MUSTER_TRY(AddNames(api, namespace_name, k8s::kJobs, "job", RunSelector(spec), names));
  MUSTER_TRY(AddNames(api, namespace_name, k8s::kPods, "pod", RunSelector(spec), names));
  return names;
}

Result<std::vector<std::string>> WorkersLeft(k8s::ApiClient& api, const std::string& namespace_name,
                                             const JobSpec& spec) {
  std::vector<std::string> names;
  const std::string selector = fmt::format("{},{}=worker", RunSelector(spec), kComponentLabel);
  MUSTER_TRY(AddNames(api, namespace_name, k8s::kPods, "pod", selector, names));
  return names;
}

}  // namespace muster::kubernetes
