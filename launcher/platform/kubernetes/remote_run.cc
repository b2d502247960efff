#include "launcher/platform/kubernetes/remote_run.h"

#include <algorithm>

#include "k8s/client/json_fields.h"
#include "k8s/client/kubeconfig.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/objects.h"
#include "launcher/platform/kubernetes/run_objects.h"

namespace muster::kubernetes {
namespace {

using k8s::At;
using k8s::StringAt;
using nlohmann::json;

constexpr size_t kMostEvents = 200;  // of one object; they live for an hour

Code CodeNamed(const std::string& name) {
  for (int number = 1; number <= static_cast<int>(Code::kUnauthenticated); ++number) {
    if (CodeName(static_cast<Code>(number)) == name) return static_cast<Code>(number);
  }
  return Code::kUnknown;
}

// The object in an answer of the coordinator.
Result<json> ObjectOf(const k8s::HttpResponse& response) {
  json object = json::parse(response.body, nullptr, false);
  if (response.head.status < 300 && object.is_object()) return object;
  if (object.is_object() && object.contains("error")) {
    return WithHint(Err(CodeNamed(StringAt(object, {"code"})), "the coordinator refuses: {}",
                        StringAt(object, {"error"})),
                    StringAt(object, {"hint"}));
  }
  return Err(Code::kUnavailable, "the coordinator does not answer: HTTP status {}",
             response.head.status);
}

std::optional<std::string> KeyOf(const json& map, std::string_view key) {
  const json& value = At(map, {"data", key.data()});
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) return std::nullopt;
  return value.get<std::string>();
}

Status AddEvents(k8s::ApiClient& api, const std::string& space, const json& object,
                 const k8s::Call& call, std::vector<json>& events) {
  MUSTER_ASSIGN(
      k8s::ObjectList list,
      api.List(k8s::kEvents, space,
               {.field_selector = "involvedObject.uid=" + StringAt(object, {"metadata", "uid"})},
               call));
  if (list.items.size() > kMostEvents) list.items.resize(kMostEvents);
  for (json& event : list.items) events.push_back(std::move(event));
  return {};
}

}  // namespace

RemoteRun::RemoteRun(std::unique_ptr<k8s::ApiClient> api, std::string namespace_name, JobSpec spec,
                     std::string uid, std::string secret)
    : api_(std::move(api)),
      namespace_name_(std::move(namespace_name)),
      spec_(std::move(spec)),
      uid_(std::move(uid)),
      secret_(std::move(secret)) {}

std::string RemoteRun::name() const { return RunName(spec_); }

k8s::ProxyTarget RemoteRun::Target() const {
  return {.namespace_name = namespace_name_,
          .service = name(),
          .port = "http",
          .headers = {"X-Muster-Secret: " + secret_}};
}

// The ConfigMap last: a coordinator writes its result before it ends.
Result<RunLook> RemoteRun::Look(const k8s::Call& call) const {
  RunLook look;
  auto job = api_->Get({k8s::kJobs, namespace_name_, CoordinatorName(spec_), ""}, call);
  if (!job && job.error().code != Code::kNotFound) return tl::unexpected(job.error());
  if (job) look.scene.job = std::move(*job);
  const std::string selector =
      fmt::format("{},{}=coordinator", RunSelector(spec_), kComponentLabel);
  MUSTER_ASSIGN(k8s::ObjectList pods,
                api_->List(k8s::kPods, namespace_name_, {.label_selector = selector}, call));
  look.scene.pods = std::move(pods.items);
  if (look.scene.job.is_object()) {
    MUSTER_TRY(AddEvents(*api_, namespace_name_, look.scene.job, call, look.scene.events));
  }
  for (const json& pod : look.scene.pods) {
    if (StringAt(pod, {"status", "phase"}) != "Pending") continue;
    MUSTER_TRY(AddEvents(*api_, namespace_name_, pod, call, look.scene.events));
  }
  const auto map = api_->Get({k8s::kConfigMaps, namespace_name_, name(), ""}, call);
  if (!map && map.error().code != Code::kNotFound) return tl::unexpected(map.error());
  const bool another = map && !uid_.empty() && StringAt(*map, {"metadata", "uid"}) != uid_;
  look.gone = !map || another;
  if (look.gone) return look;
  look.started = KeyOf(*map, kEpochKey).has_value();
  look.finished = KeyOf(*map, kResultKey);
  look.status = KeyOf(*map, kStatusKey).value_or("");
  look.events = KeyOf(*map, kEventsKey).value_or("");
  return look;
}

Result<std::string> RemoteRun::WhyPodWaits(const std::string& pod, const k8s::Call& call) const {
  MUSTER_ASSIGN(const json object, api_->Get({k8s::kPods, namespace_name_, pod, ""}, call));
  std::vector<json> events;
  MUSTER_TRY(AddEvents(*api_, namespace_name_, object, call, events));
  std::string why = kubernetes::WhyPodWaits(object, events);
  const std::string subject = fmt::format("pod {} ", pod);
  return why.starts_with(subject) ? why.substr(subject.size()) : why;
}

Result<json> RemoteRun::Status(const k8s::Call& call) const {
  MUSTER_ASSIGN(const k8s::HttpResponse response, api_->ProxyGet(Target(), "/v1/status", call));
  return ObjectOf(response);
}

Result<json> RemoteRun::Resize(const WorkerRange& workers, const k8s::Call& call) const {
  const json body = {{"min", workers.min}, {"max", workers.max}};
  MUSTER_ASSIGN(const k8s::HttpResponse response,
                api_->ProxyPost(Target(), "/v1/resize", body.dump(), call));
  return ObjectOf(response);
}

Result<json> RemoteRun::Stop(bool now, const std::string& reason, const k8s::Call& call) const {
  const json body = {{"now", now}, {"reason", reason}};
  MUSTER_ASSIGN(const k8s::HttpResponse response,
                api_->ProxyPost(Target(), "/v1/stop", body.dump(), call));
  return ObjectOf(response);
}

Result<std::vector<std::string>> RemoteRun::MissingChunks(const k8s::Call& call) const {
  MUSTER_ASSIGN(const k8s::HttpResponse response, api_->ProxyGet(Target(), "/v1/bundle", call));
  const auto object = ObjectOf(response);
  if (!object && object.error().code == Code::kNotFound) {
    return WithHint(Err(Code::kFailedPrecondition, "{}", object.error().message),
                    "its image has a launcher that is not of the version of this one");
  }
  if (!object) return tl::unexpected(object.error());
  std::vector<std::string> chunks;
  const json& missing = At(*object, {"missing"});
  if (!missing.is_array()) return Err(Code::kDataLoss, "the coordinator lists no missing chunks");
  for (const json& chunk : missing) {
    if (chunk.is_string()) chunks.push_back(chunk.get<std::string>());
  }
  return chunks;
}

Result<void> RemoteRun::PutChunk(const std::string& hash, const std::string& compressed,
                                 const k8s::Call& call) const {
  MUSTER_ASSIGN(const k8s::HttpResponse response,
                api_->ProxyPost(Target(), "/v1/chunk?hash=" + hash, compressed, call));
  MUSTER_TRY(ObjectOf(response));
  return {};
}

Result<std::unique_ptr<k8s::HttpStream>> RemoteRun::Events(uint64_t after, bool follow,
                                                           const k8s::Call& call) const {
  k8s::Call once = call;
  once.retry = false;
  return api_->ProxyStream(
      Target(), fmt::format("/v1/events?after={}{}", after, follow ? "&follow=1" : ""), once);
}

Result<std::vector<ListedRun>> ListRuns(k8s::ApiClient& api, const std::string& namespace_name,
                                        const std::string& name, const k8s::Call& call) {
  std::string selector = fmt::format("{}=muster,{}", kManagedByLabel, kRunLabel);
  if (!name.empty()) selector += fmt::format(",{}={}", kJobLabel, name);
  MUSTER_ASSIGN(const k8s::ObjectList list,
                api.List(k8s::kConfigMaps, namespace_name, {.label_selector = selector}, call));
  std::vector<ListedRun> runs;
  for (const json& map : list.items) {
    auto spec = JobSpec::FromJson(KeyOf(map, kJobKey).value_or(""));
    if (!spec || RunName(*spec) != StringAt(map, {"metadata", "name"})) continue;
    runs.push_back({std::move(*spec), StringAt(map, {"metadata", "uid"}),
                    KeyOf(map, kStatusKey).value_or(""), KeyOf(map, kEpochKey).has_value(),
                    KeyOf(map, kResultKey)});
  }
  std::stable_sort(runs.begin(), runs.end(), [](const ListedRun& a, const ListedRun& b) {
    return a.spec.created_ms > b.spec.created_ms;
  });
  return runs;
}

Result<std::string> ReadRunSecret(k8s::ApiClient& api, const std::string& namespace_name,
                                  const JobSpec& spec, const k8s::Call& call) {
  const std::string name = RunName(spec);
  MUSTER_ASSIGN(const json object, api.Get({k8s::kSecrets, namespace_name, name, ""}, call));
  const auto secret = k8s::DecodeBase64(StringAt(object, {"data", kSecretKey.data()}));
  if (!secret || secret->empty()) {
    return Err(Code::kDataLoss, "the Secret {} holds no key \"{}\"", name, kSecretKey);
  }
  return *secret;
}

std::string ProgressOf(const json& status) {
  nlohmann::ordered_json event = {{"event", "progress"}};
  for (const char* name :
       {"phase", "generation", "step", "total_steps", "world_size", "min_workers", "max_workers",
        "loss", "samples_per_second", "samples_consumed", "message"}) {
    if (status.contains(name)) event[name] = status[name];
  }
  return event.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace muster::kubernetes
