#include "tests/cluster/node/process_node.h"

#include <sys/wait.h>

#include <csignal>

#include "runtime/base/log.h"
#include "runtime/base/pause.h"
#include "tests/cluster/node/statuses.h"

namespace muster::cluster {
namespace {

using namespace std::chrono_literals;
using k8s::ObjectRef;
using nlohmann::json;

constexpr Duration kLeaseRenewal = 10s;
constexpr Duration kSilence = 2 * kLeaseRenewal;
constexpr Duration kLogWait = 5s;
constexpr auto kTick = 200ms;
constexpr Duration kVolumeWait = 10s;
constexpr Duration kVolumePause = 50ms;

k8s::Call Within(Duration time) { return {.deadline = MonotonicNow() + time}; }

std::string NameOf(const json& object) { return object["metadata"]["name"]; }

ObjectRef PodRef(const json& object, const std::string& subresource = "") {
  return {.resource = k8s::kPods,
          .namespace_name = object["metadata"]["namespace"],
          .name = NameOf(object),
          .subresource = subresource};
}

// A node may read what its pods name; the server may learn of a pod a moment later than the node does, and refuses what is for it, or
// does not find it.
Result<json> OnceKnown(const std::function<Result<json>()>& call) {
  const TimePoint deadline = MonotonicNow() + kVolumeWait;
  while (true) {
    Result<json> answer = call();
    if (answer || MonotonicNow() >= deadline) return answer;
    const Code code = answer.error().code;
    if (code != Code::kPermissionDenied && code != Code::kNotFound) return answer;
    PauseFor(kVolumePause, {});
  }
}

// Nobody has answered, as opposed to an answer that says no.
bool IsSilence(const Error& error) {
  return error.code == Code::kUnavailable || error.code == Code::kDeadlineExceeded;
}

std::string LogName(const json& object) {
  return fmt::format("{}/{}", object["metadata"]["namespace"].get<std::string>(), NameOf(object));
}

}  // namespace

ProcessNode::ProcessNode(k8s::ApiClient* client, LogServer* logs, NodeOptions options)
    : client_(client), logs_(logs), options_(std::move(options)) {
  reporter_ = std::jthread([this](const std::stop_token& stop) { WriteReports(stop); });
}

ProcessNode::~ProcessNode() {
  informer_.reset();
  for (auto& [uid, pod] : pods_) {
    if (pod.pid == 0) continue;
    ::kill(pod.pid, SIGKILL);
    ::waitpid(pod.pid, nullptr, 0);
  }
}

Status ProcessNode::Run() {
  MUSTER_TRY(Register());
  informer_ = std::make_unique<k8s::Informer>(
      client_,
      k8s::InformerOptions{.resource = k8s::kPods,
                           .field_selector = "spec.nodeName=" + options_.name},
      [this](const k8s::WatchUpdate& update) { Take(update); });
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD, SIGUSR1}) sigaddset(&signals, number);
  TimePoint lease_due = MonotonicNow();
  for (;;) {
    const timespec tick{.tv_nsec = std::chrono::nanoseconds(kTick).count()};
    const int signal = ::sigtimedwait(&signals, nullptr, &tick);
    if (signal == SIGTERM || signal == SIGINT) return {};
    ReapPods();
    std::deque<k8s::Change> changes;
    {
      MutexLock lock(mutex_);
      changes.swap(changes_);
    }
    for (const k8s::Change& change : changes) {
      if (change.kind == k8s::ChangeKind::kDeleted) {
        Gone((*change.object)["metadata"]["uid"]);
      } else {
        Seen(*change.object);
      }
    }
    KillOverdue();
    if (MonotonicNow() >= lease_due) {
      RenewLease();
      lease_due = MonotonicNow() + kLeaseRenewal;
    }
  }
}

Status ProcessNode::Register() {
  const ObjectRef node{.resource = k8s::kNodes, .name = options_.name};
  if (!options_.adopt) {
    json labels = options_.labels;
    labels.update({{"kubernetes.io/hostname", options_.name},
                   {"kubernetes.io/os", "linux"},
                   {"kubernetes.io/arch", "amd64"}});
    const auto made = client_->Create({.resource = k8s::kNodes},
                                      {{"apiVersion", "v1"},
                                       {"kind", "Node"},
                                       {"metadata", {{"name", options_.name}, {"labels", labels}}},
                                       {"spec", {{"providerID", "process://" + options_.name}}}},
                                      {}, Within(30s));
    if (!made && made.error().code != Code::kAlreadyExists) return tl::unexpected(made.error());
  }
  MUSTER_TRY(ReportNode());
  log::info("node {} is registered", options_.name);
  return {};
}

Status ProcessNode::ReportNode() {
  json status = NodeStatus(options_.name, options_.address, kKubeletPort);
  // What an autoscaler has said about its node holds.
  if (!options_.adopt) status["capacity"] = status["allocatable"] = options_.resources;
  const ObjectRef node{.resource = k8s::kNodes, .name = options_.name, .subresource = "status"};
  MUSTER_TRY(
      client_->Patch(node, k8s::PatchKind::kStrategic, {{"status", status}}, {}, Within(30s)));
  return {};
}

void ProcessNode::RenewLease() {
  // While nobody answers, one renewal is enough to be under way.
  if (renewing_.exchange(true)) return;
  const json content{{"apiVersion", "coordination.k8s.io/v1"},
                     {"kind", "Lease"},
                     {"spec",
                      {{"holderIdentity", options_.name},
                       {"leaseDurationSeconds", 40},
                       {"renewTime", MicroTimeText()}}}};
  const ObjectRef lease{
      .resource = k8s::kLeases, .namespace_name = "kube-node-lease", .name = options_.name};
  ReportLater([this, lease, content]() -> Status {
    const Status wrote = WriteLease(lease, content);
    renewing_ = !wrote && IsSilence(wrote.error());  // then it is tried again
    MUSTER_TRY(wrote);
    const TimePoint now = MonotonicNow();
    // After a silence it may have been declared dead, and only itself says that it is back.
    const bool silent = now - std::exchange(renewed_, now) > kSilence;
    return silent ? ReportNode() : Status{};
  });
}

Status ProcessNode::WriteLease(const ObjectRef& lease, const json& content) {
  const auto patched =
      client_->Patch(lease, k8s::PatchKind::kMerge, {{"spec", content["spec"]}}, {}, Within(10s));
  if (patched || patched.error().code != Code::kNotFound) {
    return patched ? Status{} : tl::unexpected(patched.error());
  }
  json named = content;
  named["metadata"]["name"] = options_.name;
  MUSTER_TRY(client_->Create({.resource = k8s::kLeases, .namespace_name = "kube-node-lease"}, named,
                             {}, Within(10s)));
  return {};
}

void ProcessNode::Take(const k8s::WatchUpdate& update) {
  if (!update.note.empty()) log::info("pods: {}", update.note);
  MutexLock lock(mutex_);
  changes_.insert(changes_.end(), update.changes.begin(), update.changes.end());
  ::kill(::getpid(), SIGUSR1);  // wakes the main thread
}

void ProcessNode::Seen(const json& object) {
  const std::string uid = object["metadata"]["uid"];
  const auto [found, is_new] = pods_.try_emplace(uid);
  Pod& pod = found->second;
  pod.object = object;
  if (is_new) {
    const std::string phase = object.value("/status/phase"_json_pointer, "Pending");
    pod.terminal = phase == "Succeeded" || phase == "Failed";
    const bool was_here = phase == "Running";  // before this node was started again
    if (was_here) Finish(pod, 137, "the node was restarted");
    if (!pod.terminal && !object["metadata"].contains("deletionTimestamp")) Start(pod);
  }
  if (object["metadata"].contains("deletionTimestamp")) {
    Stop(pod, object["metadata"].value("deletionGracePeriodSeconds", 0));
  }
}

void ProcessNode::Gone(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  if (found->second.pid != 0) {
    ::kill(found->second.pid, SIGKILL);
    ::waitpid(found->second.pid, nullptr, 0);
  }
  logs_->Forget(LogName(found->second.object));
  pods_.erase(found);
}

void ProcessNode::Start(Pod& pod) {
  const std::string subnet = options_.address.substr(0, options_.address.rfind('.'));
  pod.ip = fmt::format("{}.{}", subnet, next_address_);
  next_address_ = next_address_ == 254 ? 2 : next_address_ + 1;
  pod.start_time = TimeText();
  const auto start = [&]() -> Result<pid_t> {
    MUSTER_ASSIGN(
        PodPlan plan,
        MakePodPlan(pod.object, {options_.name, pod.ip, options_.api_server, options_.gpu_driver},
                    [&](const json& what) { return FetchVolume(pod, what); }));
    plan.launcher = options_.launcher;
    const std::string file = fmt::format(
        "{}_{}.log", pod.object["metadata"]["namespace"].get<std::string>(), NameOf(pod.object));
    MUSTER_ASSIGN(const UniqueFd output,
                  logs_->Open(LogName(pod.object), plan.container, options_.folder / file));
    return StartPod(plan, {.ip = pod.ip, .node = options_.address}, output.get());
  };
  const Result<pid_t> started = start();
  if (!started) {
    Finish(pod, 128, started.error().message);
    return;
  }
  pod.pid = *started;
  pod.running_since = TimeText();
  log::info("pod {} runs as process {} with address {}", NameOf(pod.object), pod.pid, pod.ip);
  Report(pod, "Running", {{"running", {{"startedAt", pod.running_since}}}});
}

void ProcessNode::Stop(Pod& pod, int grace_seconds) {
  if (pod.pid == 0 && !pod.stopping) {
    pod.stopping = true;
    Finish(pod, 0, "");
    return;
  }
  if (pod.pid == 0) return;
  const TimePoint kill_at = MonotonicNow() + std::chrono::seconds(grace_seconds);
  if (!pod.kill_at || kill_at < *pod.kill_at) pod.kill_at = kill_at;
  if (!pod.stopping) ::kill(pod.pid, SIGTERM);
  pod.stopping = true;
}

void ProcessNode::Finish(Pod& pod, int exit_code, const std::string& message) {
  if (!pod.terminal) {
    pod.terminal = true;
    log::info("pod {} has ended with {} {}", NameOf(pod.object), exit_code, message);
    const std::string started = pod.running_since.empty() ? TimeText() : pod.running_since;
    Report(pod, exit_code == 0 ? "Succeeded" : "Failed",
           {{"terminated",
             {{"exitCode", exit_code},
              {"reason", exit_code == 0 ? "Completed" : "Error"},
              {"message", message},
              {"startedAt", started},
              {"finishedAt", TimeText()}}}});
  }
  if (!pod.stopping) return;
  ReportLater([this, object = pod.object]() -> Status {
    return client_->Delete(
        PodRef(object), {.uid = object["metadata"]["uid"], .grace_period_seconds = 0}, Within(10s));
  });
}

void ProcessNode::ReapPods() {
  for (auto& [uid, pod] : pods_) {
    int status = 0;
    if (pod.pid == 0 || ::waitpid(pod.pid, &status, WNOHANG) != pod.pid) continue;
    pod.pid = 0;
    // Whoever learns of the end can read all that was said.
    logs_->AwaitEnd(LogName(pod.object), MonotonicNow() + kLogWait);
    Finish(pod, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "");
  }
}

void ProcessNode::KillOverdue() {
  for (auto& [uid, pod] : pods_) {
    if (pod.pid != 0 && pod.kill_at && MonotonicNow() >= *pod.kill_at) ::kill(pod.pid, SIGKILL);
  }
}

Result<json> ProcessNode::FetchVolume(const Pod& pod, const json& what) {
  const std::string space = pod.object["metadata"]["namespace"];
  const std::string kind = what["kind"];
  if (kind == "Token") {
    json spec{{"boundObjectRef",
               {{"kind", "Pod"},
                {"apiVersion", "v1"},
                {"name", NameOf(pod.object)},
                {"uid", pod.object["metadata"]["uid"]}}}};
    if (!what["audience"].get<std::string_view>().empty()) spec["audiences"] = {what["audience"]};
    const json request{
        {"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", spec}};
    const ObjectRef account{.resource = k8s::kServiceAccounts,
                            .namespace_name = space,
                            .name = pod.object["spec"]["serviceAccountName"],
                            .subresource = "token"};
    MUSTER_ASSIGN(const json answer, OnceKnown([&] {
                    return client_->Create(account, request, {}, Within(kVolumeWait));
                  }));
    return json{{"token", answer["status"]["token"]}};
  }
  const bool secret = kind == "Secret";
  const ObjectRef source{.resource = secret ? k8s::kSecrets : k8s::kConfigMaps,
                         .namespace_name = space,
                         .name = what["name"]};
  MUSTER_ASSIGN(const json object,
                OnceKnown([&] { return client_->Get(source, Within(kVolumeWait)); }));
  const json data = object.value("data", json::object());
  json keys = json::object();
  for (const auto& [key, value] : data.items()) {
    const std::string text = value;
    keys[key] = secret ? k8s::DecodeBase64(text).value_or("") : text;
  }
  return keys;
}

void ProcessNode::Report(const Pod& pod, const std::string& phase, const json& state) {
  const json status = PodStatus(
      pod.object, {.ip = pod.ip, .node_address = options_.address, .start_time = pod.start_time},
      phase, state);
  const json patch{{"metadata", {{"uid", pod.object["metadata"]["uid"]}}}, {"status", status}};
  ReportLater([this, object = pod.object, patch]() -> Status {
    MUSTER_TRY(client_->Patch(PodRef(object, "status"), k8s::PatchKind::kStrategic, patch, {},
                              Within(10s)));
    return {};
  });
}

void ProcessNode::ReportLater(std::function<Status()> write) {
  MutexLock lock(mutex_);
  reports_.push_back(std::move(write));
  changed_.notify_all();
}

void ProcessNode::WriteReports(const std::stop_token& stop) {
  for (;;) {
    std::function<Status()> write;
    {
      MutexLock lock(mutex_);
      changed_.wait(mutex_, stop, [&]() REQUIRES(mutex_) { return !reports_.empty(); });
      if (stop.stop_requested()) return;
      write = std::move(reports_.front());
      reports_.pop_front();
    }
    // The pod may be gone, or another one have its name: then there is nobody to report about.
    for (Status done = write(); !done; done = write()) {
      const Code code = done.error().code;
      if (!IsSilence(done.error())) {
        if (code != Code::kNotFound && code != Code::kAborted)
          log::warn("{}", done.error().message);
        break;
      }
      if (stop.stop_requested()) return;
    }
  }
}

}  // namespace muster::cluster
