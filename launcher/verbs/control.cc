// What changes a running job: `launcher resize` and `launcher stop`.
#include <poll.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "launcher/client/client.h"
#include "launcher/job/fields.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{10};
constexpr std::chrono::seconds kStopNowAnswerTime{2};
constexpr std::chrono::seconds kStopTime{
    90};  // the coordinator gives the step and the checkpoint 60 s
constexpr int kLookEveryMs = 20;
constexpr int kBetweenSignalsMs = 100;
constexpr int kMostSignals = 20;

Status NotRunning(const JobStore& store, const std::string& name) {
  const auto status = store.ReadStatus(name);
  return WithHint(Err(Code::kFailedPrecondition, "{} is not running: it has {}", name,
                      status ? FieldOr<std::string>(*status, "phase", "ended") : "ended"),
                  fmt::format("launcher status {} says more", name));
}

bool IsWorkers(const std::string& text) { return ParseWorkers("", text).has_value(); }

bool WaitForEnd(const JobStore& store, const std::string& name, TimePoint deadline) {
  while (store.IsRunning(name)) {
    if (MonotonicNow() >= deadline) return false;
    ::poll(nullptr, 0, kLookEveryMs);
  }
  return true;
}

Status RequestStop(const JobStore& store, const std::string& name, bool now) {
  MUSTER_ASSIGN(const auto client, CoordinatorClient::Open(store.Folder(name)));
  Cancellation cancellation;
  v1::StopRequest request;
  request.set_now(now);
  request.set_reason("stopped by launcher stop");
  v1::JsonReply reply;
  const TimePoint deadline = MonotonicNow() + (now ? kStopNowAnswerTime : kAnswerTime);
  return Call(*client, cancellation, deadline, [&](Stub& stub, grpc::ClientContext* context) {
    return stub.Stop(context, request, &reply);
  });
}

// For a job whose coordinator cannot answer: its supervisor kills it at the second signal.
void KillSupervisor(const JobStore& store, const std::string& name) {
  const auto spec = store.Folder(name).ReadSpec();
  if (!spec || spec->supervisor_pid <= 0) return;
  // Signals too close together would count as one.
  for (int signals = 0; signals < kMostSignals && store.IsRunning(name); ++signals) {
    ::kill(static_cast<pid_t>(spec->supervisor_pid), SIGTERM);
    ::poll(nullptr, 0, kBetweenSignalsMs);
  }
}

}  // namespace

Result<int> ResizeJob(const Invocation& invocation) {
  std::vector<std::string> operands = invocation.operands;
  if (operands.empty() || (operands.size() == 1 && !IsWorkers(operands[0]))) {
    return WithHint(Err(Code::kInvalidArgument, "the new number of workers is missing"),
                    "example: launcher resize JOB 4, or launcher resize JOB 2:8");
  }
  MUSTER_ASSIGN(const WorkerRange workers, ParseWorkers("the number of workers", operands.back()));
  operands.pop_back();
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, operands, false));
  if (job.cluster) return ResizeClusterJob(invocation, *job.cluster, workers);
  const std::string& name = job.name;
  if (!store.IsRunning(name)) MUSTER_TRY(NotRunning(store, name));
  const auto before = store.ReadStatus(name);

  MUSTER_ASSIGN(const auto client, CoordinatorClient::Open(store.Folder(name)));
  Cancellation cancellation;
  v1::ResizeRequest request;
  request.set_min_workers(workers.min);
  request.set_max_workers(workers.max);
  v1::JsonReply reply;
  MUSTER_TRY(Call(*client, cancellation, MonotonicNow() + kAnswerTime,
                  [&](Stub& stub, grpc::ClientContext* context) {
                    return stub.Resize(context, request, &reply);
                  }));
  if (invocation.json()) {
    Print(reply.json() + "\n");
    return 0;
  }
  Print(fmt::format(
      "{0}: from {1} to {2}; the others keep training meanwhile\n"
      "  watch it: launcher events {0} -f, launcher status {0}\n",
      name, before ? FieldOr(*before, "world_size", 0) : 0, WorkersText(workers.min, workers.max)));
  return 0;
}

Result<int> StopJob(const Invocation& invocation) {
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, invocation.operands, false));
  if (job.cluster) return StopClusterJob(invocation, store, *job.cluster);
  const std::string& name = job.name;
  const bool now = invocation.Has("now");
  const bool was_running = store.IsRunning(name);
  if (was_running) {
    if (!invocation.json()) {
      PrintError(fmt::format("stopping {}{}\n", name, now ? " at once" : " after this step"));
    }
    const Status requested = RequestStop(store, name, now);
    // A job that ends by itself at this moment answers no more, and that is fine.
    if (!requested && !now && store.IsRunning(name)) {
      return WithHint(tl::unexpected<Error>(requested.error()), "launcher stop --now kills it");
    }
    if (!requested) KillSupervisor(store, name);
    if (!WaitForEnd(store, name, MonotonicNow() + kStopTime)) {
      return WithHint(
          Err(Code::kDeadlineExceeded, "{} has not stopped within {} s", name, kStopTime.count()),
          "launcher stop --now kills it");
    }
  }
  MUSTER_ASSIGN(const json status, store.ReadStatus(name));
  if (invocation.json()) {
    Print(status.dump() + "\n");
  } else {
    Print(fmt::format("{} {} {} at step {}\n", name, was_running ? "has" : "had already",
                      FieldOr<std::string>(status, "phase", "ended"),
                      FieldOr<uint64_t>(status, "step", 0)));
  }
  return 0;
}

}  // namespace muster
