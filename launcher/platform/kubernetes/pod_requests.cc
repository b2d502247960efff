#include "launcher/platform/kubernetes/pod_requests.h"

#include <pthread.h>

#include <utility>

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/fleet_answers.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using fleet::CreateAnswered;
using fleet::DeleteAnswered;

std::string FaultOf(const k8s::ApiFailure& failure) {
  return IsFault(failure) ? failure.error.message : "";
}

}  // namespace

PodRequests::PodRequests(k8s::ApiClient& client, const ClusterRun& run, int threads,
                         std::function<bool()> may_send, Reply reply)
    : client_(client), run_(run), may_send_(std::move(may_send)), reply_(std::move(reply)) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this](const std::stop_token& stop) { Run(stop); });
  }
}

PodRequests::~PodRequests() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void PodRequests::Create(fleet::CreatePod action, TimePoint deadline) {
  Queue([this, action = std::move(action), deadline](const std::stop_token& stop) {
    if (MonotonicNow() >= deadline) {
      reply_(
          {CreateAnswered{.name = action.name, .result = CreateAnswered::Result::kBusy}, true, {}});
      return;
    }
    SendCreate(action, {.deadline = deadline, .stop = stop, .retry = false});
  });
}

void PodRequests::Delete(fleet::DeletePod action, TimePoint deadline) {
  Queue([this, action = std::move(action), deadline](const std::stop_token& stop) {
    if (MonotonicNow() >= deadline) return;
    SendDelete(action, {.deadline = deadline, .stop = stop, .retry = false});
  });
}

void PodRequests::Queue(Job job) {
  MutexLock lock(mutex_);
  jobs_.push_back(std::move(job));
  arrived_.notify_one();
}

void PodRequests::Run(const std::stop_token& stop) {
  ::pthread_setname_np(::pthread_self(), "muster-pods");
  while (true) {
    Job job;
    {
      MutexLock lock(mutex_);
      arrived_.wait(mutex_, stop, [this]() REQUIRES(mutex_) { return !jobs_.empty(); });
      if (stop.stop_requested()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    if (may_send_()) job(stop);
  }
}

void PodRequests::SendCreate(const fleet::CreatePod& action, const k8s::Call& call) {
  for (const Pool& pool : PoolsOf(run_)) {
    if (pool.name != action.pool) continue;
    k8s::ApiFailure failure;
    k8s::Call observed = call;
    observed.failure = &failure;
    const Result<nlohmann::json> made =
        client_.Create({k8s::kPods, run_.namespace_name},
                       nlohmann::json(WorkerPod(run_, pool, action.serial)), {}, observed);
    if (call.stop.stop_requested()) return;
    if (made) {
      reply_({CreateAnswered{.name = action.name, .uid = k8s::StringAt(*made, {"metadata", "uid"})},
              true, ""});
      return;
    }
    if (failure.status == 0) failure.error = made.error();
    const CreateAnswered answer = IsWorthALook(failure) ? Look(action.name, failure, call)
                                                        : CreateFailed(action.name, failure);
    reply_({answer, true, FaultOf(failure)});
    return;
  }
}

CreateAnswered PodRequests::Look(const std::string& name, const k8s::ApiFailure& failure,
                                 const k8s::Call& call) {
  k8s::ApiFailure unseen;
  k8s::Call observed = call;
  observed.failure = &unseen;
  const Result<nlohmann::json> pod = client_.Get({k8s::kPods, run_.namespace_name, name}, observed);
  if (pod) return LookedAt(name, RunLabel(run_.spec), failure, *pod);
  const bool none = unseen.status == 404 && unseen.reason == "NotFound";
  return none ? LookedAt(name, RunLabel(run_.spec), failure, nullptr) : CreateFailed(name, failure);
}

void PodRequests::SendDelete(const fleet::DeletePod& action, const k8s::Call& call) {
  k8s::ApiFailure failure;
  k8s::Call observed = call;
  observed.failure = &failure;
  k8s::DeleteOptions options{.uid = action.uid};
  if (action.grace) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*action.grace);
    options.grace_period_seconds = static_cast<int>(seconds.count());
  }
  const Status deleted =
      client_.Delete({k8s::kPods, run_.namespace_name, action.name}, options, observed);
  if (call.stop.stop_requested()) return;
  if (deleted) {
    reply_({DeleteAnswered{.name = action.name, .uid = action.uid}, false, ""});
    return;
  }
  if (failure.status == 0) failure.error = deleted.error();
  const DeleteAnswered answer = DeleteFailed(action.name, action.uid, failure);
  const bool gone = answer.result == DeleteAnswered::Result::kNotFound;
  reply_({answer, false, gone ? "" : failure.error.message});
}

}  // namespace muster::kubernetes
