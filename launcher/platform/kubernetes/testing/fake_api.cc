#include "launcher/platform/kubernetes/testing/fake_api.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;
using k8s::FakeRequest;
using nlohmann::json;

// "pods" and "" of "/api/v1/namespaces/ml/pods?x=y", "pods" and "a" of "/api/v1/namespaces/ml/pods/a".
std::pair<std::string, std::string> KindAndName(const std::string& target) {
  std::string path = target.substr(0, target.find('?'));
  const std::string prefix = "/api/v1/namespaces/ml/";
  MUSTER_CHECK(path.starts_with(prefix), "{}", target);
  path.erase(0, prefix.size());
  const size_t slash = path.find('/');
  if (slash == path.npos) return {path, ""};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

bool IsWatch(const FakeRequest& request) {
  return request.target.find("watch=true") != request.target.npos;
}

int VersionAsked(const FakeRequest& request) {
  const std::string key = "resourceVersion=";
  return std::stoi(request.target.substr(request.target.find(key) + key.size()));
}

}  // namespace

FakeApi::FakeApi(const std::string& run) : run_name_(run) {
  run_ = {{"metadata", {{"name", run}, {"uid", "uid-run"}, {"resourceVersion", "1"}}},
          {"data", {{"image", "i"}}}};
  server_.Otherwise([this](FakeExchange& exchange) { Serve(exchange); });
}

FakeApi::~FakeApi() {
  MutexLock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

std::unique_ptr<k8s::ApiClient> FakeApi::NewClient(int connections) const {
  k8s::ClientConfig config;
  config.cluster.server = server_.url();
  return std::move(*k8s::ApiClient::Create(
      config,
      {.http2 = false, .max_connections = connections, .backoff = {.first = 1ms, .cap = 20ms}}));
}

void FakeApi::SetFault(std::function<Fault(FakeExchange&)> fault) {
  MutexLock lock(mutex_);
  fault_ = std::move(fault);
}

FakeApi::Answer FakeApi::Failure(int code, const std::string& reason, const std::string& message) {
  return {code, {{"kind", "Status"}, {"code", code}, {"reason", reason}, {"message", message}}};
}

Fault FakeApi::Refuse(FakeExchange& exchange, int code, const std::string& reason,
                      const std::string& message, const std::vector<std::string>& headers) {
  exchange.Answer(code, Failure(code, reason, message).body.dump(), headers);
  return Fault::kAnswered;
}

void FakeApi::MergePod(const std::string& name, const json& patch) {
  MutexLock lock(mutex_);
  const auto found = pods_.find(name);
  MUSTER_CHECK(found != pods_.end(), "{}", name);
  found->second.merge_patch(patch);
  Tell("MODIFIED", found->second);
}

void FakeApi::MergeRun(const json& patch) {
  MutexLock lock(mutex_);
  run_.merge_patch(patch);
  run_["metadata"]["resourceVersion"] = std::to_string(++version_);
}

void FakeApi::RunAll() {
  MutexLock lock(mutex_);
  for (auto& [name, pod] : pods_) {
    if (pod["status"]["phase"] != "Pending") continue;
    pod.merge_patch({{"spec", {{"nodeName", "n"}}}, {"status", {{"phase", "Running"}}}});
    Tell("MODIFIED", pod);
  }
}

void FakeApi::AddPod(json pod) {
  MutexLock lock(mutex_);
  const std::string name = pod["metadata"]["name"];
  pod["metadata"]["uid"] = fmt::format("uid-{}", ++uids_);
  if (!pod.contains("status")) pod["status"]["phase"] = "Pending";
  Tell("ADDED", pods_[name] = std::move(pod));
}

void FakeApi::RemovePod(const std::string& name, bool told) {
  MutexLock lock(mutex_);
  Erase(name, told);
}

void FakeApi::RemoveRun() {
  MutexLock lock(mutex_);
  run_ = nullptr;
}

std::vector<std::string> FakeApi::pods() {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, pod] : pods_) names.push_back(name);
  return names;
}

int FakeApi::version() {
  MutexLock lock(mutex_);
  return version_;
}

json FakeApi::run() {
  MutexLock lock(mutex_);
  return run_;
}

std::vector<std::string> FakeApi::log() {
  MutexLock lock(mutex_);
  return log_;
}

int FakeApi::Count(const std::string& entry) {
  const std::vector<std::string> entries = log();
  return static_cast<int>(std::count(entries.begin(), entries.end(), entry));
}

bool FakeApi::Await(const std::function<bool()>& holds) {
  const TimePoint deadline = MonotonicNow() + 60s;
  while (!holds()) {
    if (MonotonicNow() > deadline) return false;
    MutexLock lock(mutex_);
    changed_.wait_for(mutex_, 5ms);  // it may depend on more than this server
  }
  return true;
}

void FakeApi::Serve(FakeExchange& exchange) {
  const FakeRequest& request = exchange.request();
  auto [kind, name] = KindAndName(request.target);
  if (request.method == "POST") name = json::parse(request.body)["metadata"]["name"];
  std::function<Fault(FakeExchange&)> fault;
  {
    MutexLock lock(mutex_);
    log_.push_back(fmt::format("{} {}", IsWatch(request) ? "WATCH" : request.method,
                               kind == "configmaps" ? "run"
                               : name.empty()       ? "pods"
                                                    : name));
    fault = fault_;
    changed_.notify_all();
  }
  const Fault what = fault ? fault(exchange) : Fault::kNone;
  if (what == Fault::kAnswered) return;
  if (what == Fault::kSilence) return exchange.AwaitClientGone();
  if (IsWatch(request)) return Watch(exchange);
  const Answer answer = CarryOut(request, name);
  if (what == Fault::kLostAnswer) return exchange.Close();
  exchange.Answer(answer.status, answer.body.dump());
}

FakeApi::Answer FakeApi::CarryOut(const FakeRequest& request, const std::string& name) {
  MutexLock lock(mutex_);
  changed_.notify_all();
  if (KindAndName(request.target).first == "configmaps") {
    if (run_.is_null() || name != run_name_) return Failure(404, "NotFound", "no such run");
    return request.method == "PATCH" ? PatchRun(request) : Answer{200, run_};
  }
  if (request.method == "POST") return CreatePod(request);
  if (request.method == "DELETE") return DeletePod(request, name);
  if (name.empty()) {
    json items = json::array();
    for (const auto& [key, pod] : pods_) items.push_back(pod);
    return {200, {{"metadata", {{"resourceVersion", std::to_string(version_)}}}, {"items", items}}};
  }
  const auto found = pods_.find(name);
  if (found == pods_.end()) return Failure(404, "NotFound", "no such pod");
  return {200, found->second};
}

FakeApi::Answer FakeApi::PatchRun(const FakeRequest& request) {
  const json patch = json::parse(request.body);
  if (patch["metadata"]["resourceVersion"] != run_["metadata"]["resourceVersion"]) {
    return Failure(409, "Conflict", "the object has been modified");
  }
  run_.merge_patch(patch);
  run_["metadata"]["resourceVersion"] = std::to_string(++version_);
  return {200, run_};
}

FakeApi::Answer FakeApi::CreatePod(const FakeRequest& request) {
  json pod = json::parse(request.body);
  const std::string name = pod["metadata"]["name"];
  if (pods_.contains(name)) return Failure(409, "AlreadyExists", "pods already exists");
  pod["metadata"]["uid"] = fmt::format("uid-{}", ++uids_);
  pod["status"]["phase"] = "Pending";
  Tell("ADDED", pods_[name] = pod);
  return {201, pods_[name]};
}

FakeApi::Answer FakeApi::DeletePod(const FakeRequest& request, const std::string& name) {
  const auto found = pods_.find(name);
  if (found == pods_.end()) return Failure(404, "NotFound", "no such pod");
  const json options = json::parse(request.body);
  if (options["preconditions"]["uid"] != found->second["metadata"]["uid"]) {
    return Failure(409, "Conflict",
                   "Precondition failed: UID in precondition: x, UID in object: y");
  }
  json pod = found->second;
  if (pod["spec"].contains("nodeName") && options.value("gracePeriodSeconds", 30) > 0) {
    found->second["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
    Tell("MODIFIED", found->second);
  } else {
    Erase(name, true);
  }
  return {200, pod};
}

void FakeApi::Tell(const std::string& type, const json& pod) {
  json told = pod;
  told["metadata"]["resourceVersion"] = std::to_string(++version_);
  const auto known = pods_.find(told["metadata"]["name"]);
  if (known != pods_.end()) known->second = told;
  events_.push_back({{"type", type}, {"object", told}});
  changed_.notify_all();
}

void FakeApi::Erase(const std::string& name, bool told) {
  const json pod = pods_.at(name);
  pods_.erase(name);
  ++version_;
  if (told) Tell("DELETED", pod);
}

void FakeApi::Watch(FakeExchange& exchange) {
  const int from = VersionAsked(exchange.request());
  exchange.Start(200);
  size_t next = 0;
  while (true) {
    std::string text;
    {
      MutexLock lock(mutex_);
      changed_.wait(mutex_, [&]() REQUIRES(mutex_) { return closed_ || next < events_.size(); });
      if (closed_) return exchange.Close();
      for (; next < events_.size(); ++next) {
        const json& event = events_[next];
        const std::string version = event["object"]["metadata"]["resourceVersion"];
        if (std::stoi(version) > from) text += event.dump() + "\n";
      }
    }
    if (!text.empty() && !exchange.Chunk(text)) return exchange.Close();
  }
}

}  // namespace muster::kubernetes
