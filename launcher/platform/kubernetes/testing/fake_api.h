// FakeApi: an API server for tests that keeps one ConfigMap and pods, lists and watches them, and breaks on demand.
//
// Threading: safe from any thread; the fault is called from the server's threads. Ownership: what the fault captures outlives it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "k8s/client/api_client.h"
#include "k8s/client/testing/fake_server.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {

enum class Fault {
  kNone,
  kSilence,     // not carried out, and no answer
  kLostAnswer,  // carried out, but the connection is cut
  kAnswered,    // the fault has answered, nothing is carried out
};

class FakeApi {
 public:
  // With the ConfigMap `run` and no pods.
  explicit FakeApi(const std::string& run);
  ~FakeApi();

  std::unique_ptr<k8s::ApiClient> NewClient(int connections = 32) const;

  // What happens to a request, before anything else.
  void SetFault(std::function<Fault(k8s::FakeExchange&)> fault) EXCLUDES(mutex_);
  // An answer that is an error of the API server's own.
  static Fault Refuse(k8s::FakeExchange& exchange, int code, const std::string& reason,
                      const std::string& message, const std::vector<std::string>& headers = {});

  // Changes the pod as a kubelet does, or the ConfigMap as a user does, and tells watches.
  void MergePod(const std::string& name, const nlohmann::json& patch) EXCLUDES(mutex_);
  void MergeRun(const nlohmann::json& patch) EXCLUDES(mutex_);
  // All pods that do not run yet, do.
  void RunAll() EXCLUDES(mutex_);
  void AddPod(nlohmann::json pod) EXCLUDES(mutex_);
  // Without `told`, watches hear nothing of it.
  void RemovePod(const std::string& name, bool told = true) EXCLUDES(mutex_);
  void RemoveRun() EXCLUDES(mutex_);

  std::vector<std::string> pods() EXCLUDES(mutex_);
  int version() EXCLUDES(mutex_);  // of all that there is
  nlohmann::json run() EXCLUDES(mutex_);
  // The requests that have come, as "POST run-a-1", "PATCH run", "GET pods", "WATCH pods", "DELETE run-a-1".
  std::vector<std::string> log() EXCLUDES(mutex_);
  int Count(const std::string& entry) EXCLUDES(mutex_);
  // Waits until `holds`, which is called under the lock of nothing; false after a minute.
  bool Await(const std::function<bool()>& holds) EXCLUDES(mutex_);

 private:
  struct Answer {
    int status = 200;
    nlohmann::json body;
  };

  void Serve(k8s::FakeExchange& exchange) EXCLUDES(mutex_);
  Answer CarryOut(const k8s::FakeRequest& request, const std::string& name) EXCLUDES(mutex_);
  Answer PatchRun(const k8s::FakeRequest& request) REQUIRES(mutex_);
  Answer CreatePod(const k8s::FakeRequest& request) REQUIRES(mutex_);
  Answer DeletePod(const k8s::FakeRequest& request, const std::string& name) REQUIRES(mutex_);
  void Watch(k8s::FakeExchange& exchange) EXCLUDES(mutex_);
  void Tell(const std::string& type, const nlohmann::json& pod) REQUIRES(mutex_);
  void Erase(const std::string& name, bool told) REQUIRES(mutex_);
  static Answer Failure(int code, const std::string& reason, const std::string& message);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::function<Fault(k8s::FakeExchange&)> fault_ GUARDED_BY(mutex_);
  const std::string run_name_;
  nlohmann::json run_ GUARDED_BY(mutex_);  // null: removed
  std::map<std::string, nlohmann::json> pods_ GUARDED_BY(mutex_);
  std::vector<nlohmann::json> events_ GUARDED_BY(mutex_);  // of all time, with their versions
  std::vector<std::string> log_ GUARDED_BY(mutex_);
  int version_ GUARDED_BY(mutex_) = 1;
  int uids_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;

  k8s::FakeServer server_;  // last: its handlers use all of the above
};

}  // namespace muster::kubernetes
