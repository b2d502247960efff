// ProcessNode: a node of a test cluster whose pods are real processes on this machine, with network namespaces and addresses of
// their own. It does what a kubelet does as far as anybody outside can tell: registers or adopts its Node, renews its Lease, runs
// what is bound to it, reports states, honours deletion and its grace period, and serves logs.
//
// Threading: Run() is the main thread, which owns all pods; an informer and the reporter of pod states have a thread each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "k8s/client/informer.h"
#include "runtime/base/thread_annotations.h"
#include "tests/cluster/node/log_server.h"
#include "tests/cluster/node/pod_sandbox.h"

namespace muster::cluster {

struct NodeOptions {
  std::string name;
  std::string address;           // of the machine, inside the cluster; pods have those after it
  std::string launcher;          // see PodPlan
  std::filesystem::path folder;  // for the logs of pods
  bool adopt = false;            // the Node exists: an autoscaler has made it
  std::string api_server;        // HOST:PORT, as its pods see it
  std::string gpu_driver;        // see PodPlace
  nlohmann::json resources;
  std::map<std::string, std::string> labels;
};

class ProcessNode {
 public:
  // Both must outlive it.
  ProcessNode(k8s::ApiClient* client, LogServer* logs, NodeOptions options);
  ~ProcessNode();
  ProcessNode(const ProcessNode&) = delete;
  ProcessNode& operator=(const ProcessNode&) = delete;

  // Registers, then serves until SIGTERM or SIGINT; both, and SIGCHLD, must be blocked in all threads. Pods are killed at the end.
  // Errors: the node could not be registered.
  Status Run();

 private:
  struct Pod {
    nlohmann::json object;
    std::string ip;
    std::string start_time;
    std::string running_since;
    pid_t pid = 0;  // 0: not running
    bool terminal = false;
    bool stopping = false;
    std::optional<TimePoint> kill_at;
  };

  Status Register();
  Status ReportNode();
  void RenewLease();
  Status WriteLease(const k8s::ObjectRef& lease,
                    const nlohmann::json& content);  // reporter's thread
  void Take(const k8s::WatchUpdate& update);         // from the informer's thread
  void Seen(const nlohmann::json& object);
  void Gone(const std::string& uid);
  void Start(Pod& pod);
  void Stop(Pod& pod, int grace_seconds);
  void Finish(Pod& pod, int exit_code, const std::string& message);
  void ReapPods();
  void KillOverdue();
  Result<nlohmann::json> FetchVolume(const Pod& pod, const nlohmann::json& what);
  void Report(const Pod& pod, const std::string& phase, const nlohmann::json& state);
  // Writes in the order in which they are asked for, each until it is answered.
  void ReportLater(std::function<Status()> write) EXCLUDES(mutex_);
  void WriteReports(const std::stop_token& stop) EXCLUDES(mutex_);

  k8s::ApiClient* const client_;
  LogServer* const logs_;
  const NodeOptions options_;
  std::map<std::string, Pod> pods_;  // by uid
  int next_address_ = 2;
  std::atomic<bool> renewing_ = false;
  TimePoint renewed_ = MonotonicNow();  // the reporter's

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<k8s::Change> changes_ GUARDED_BY(mutex_);
  std::deque<std::function<Status()>> reports_ GUARDED_BY(mutex_);

  std::jthread reporter_;
  std::unique_ptr<k8s::Informer> informer_;
};

}  // namespace muster::cluster
