// PodRequests: makes and deletes the pods of a run, each by one request, on a few threads.
//
// Threading: safe from any thread; nothing blocks its caller. `reply` is called from the threads of the pool. Ownership: what is given
// as a reference outlives it. The destructor gives up what is under way and waits for the threads, milliseconds.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "k8s/client/api_client.h"
#include "launcher/platform/kubernetes/fleet_actions.h"
#include "launcher/platform/kubernetes/fleet_events.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {

struct PodReply {
  fleet::FleetEvent event;  // CreateAnswered or DeleteAnswered
  bool create = false;
  // Why the API server, or the way to it, did not do its work; empty: it did, and be it to refuse. None: it was not asked.
  std::optional<std::string> fault;
};

class PodRequests {
 public:
  using Reply = std::function<void(PodReply)>;

  // Nothing is sent while `may_send` says no; what it says no to is dropped.
  PodRequests(k8s::ApiClient& client, const ClusterRun& run, int threads,
              std::function<bool()> may_send, Reply reply);
  ~PodRequests();
  PodRequests(const PodRequests&) = delete;
  PodRequests& operator=(const PodRequests&) = delete;

  // What has not been sent by the deadline will not be: a create is answered with kBusy, a delete is dropped. What has been sent and is
  // not answered by then counts as not answered.
  void Create(fleet::CreatePod action, TimePoint deadline) EXCLUDES(mutex_);
  void Delete(fleet::DeletePod action, TimePoint deadline) EXCLUDES(mutex_);

 private:
  using Job = std::function<void(const std::stop_token&)>;

  void Queue(Job job) EXCLUDES(mutex_);
  void Run(const std::stop_token& stop) EXCLUDES(mutex_);
  void SendCreate(const fleet::CreatePod& action, const k8s::Call& call);
  // What is there under that name, after a failure that does not tell.
  fleet::CreateAnswered Look(const std::string& name, const k8s::ApiFailure& failure,
                             const k8s::Call& call);
  void SendDelete(const fleet::DeletePod& action, const k8s::Call& call);

  k8s::ApiClient& client_;
  const ClusterRun& run_;
  const std::function<bool()> may_send_;
  const Reply reply_;

  Mutex mutex_;
  std::condition_variable_any arrived_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);

  std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace muster::kubernetes
