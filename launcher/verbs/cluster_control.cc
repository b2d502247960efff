// `launcher resize` and `launcher stop` for jobs on a cluster.
#include <poll.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/outcome.h"
#include "launcher/platform/kubernetes/follow_run.h"
#include "launcher/platform/kubernetes/keep.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using kubernetes::RunLook;
using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{40};  // the coordinator answers within 30 s
constexpr std::chrono::seconds kLookTime{15};
constexpr std::chrono::seconds kLastStatusTime{2};
constexpr std::chrono::seconds kAskTime{60};  // for a coordinator that is just being replaced
// The coordinator gives the step and the checkpoint 60 s, and pods have their grace.
constexpr std::chrono::seconds kStopTime{150};
constexpr int kLookEveryMs = 500;

// The error of a coordinator that does not answer, with the reason.
Error Unanswered(const ClusterJob& job, const Error& error, const std::string& hint) {
  if (error.code != Code::kUnavailable && error.code != Code::kDeadlineExceeded &&
      error.code != Code::kNotFound) {
    return error;
  }
  const auto look = job.run->Look(k8s::Within(kLookTime));
  if (!look) return look.error();
  if (look->gone) return {Code::kNotFound, fmt::format("{} is not there any more", job.name), ""};
  if (look->finished) {
    return {Code::kFailedPrecondition, fmt::format("{} has ended", job.name),
            fmt::format("launcher status {} says more", job.name)};
  }
  return {Code::kUnavailable, kubernetes::WhyCoordinatorWaits(look->scene), hint};
}

// Whether the user wants it, asked where there is somebody to ask.
bool Confirmed(const Invocation& invocation, const ClusterJob& job) {
  if (invocation.Has("yes") || ::isatty(STDIN_FILENO) == 0 || ::isatty(STDERR_FILENO) == 0) {
    return true;
  }
  PrintError(fmt::format("delete the run {} in namespace {}, without a checkpoint? [y/N] ",
                         job.run->name(), job.run->namespace_name()));
  std::string answer;
  char c = 0;
  while (::read(STDIN_FILENO, &c, 1) == 1 && c != '\n') answer += c;
  return answer == "y" || answer == "yes";
}

int Report(const Invocation& invocation, const ClusterJob& job, const json& status,
           const std::vector<std::string>& left) {
  if (invocation.json()) {
    Print(status.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  } else {
    Print(fmt::format("{} has {} at step {}\n", job.name,
                      FieldOr<std::string>(status, "phase", "ended"),
                      FieldOr<uint64_t>(status, "step", 0)));
  }
  if (left.empty()) return 0;
  return ReportClusterFailure(
      "stop", {Code::kDeadlineExceeded,
               fmt::format("still there in namespace {}: {}", job.run->namespace_name(),
                           fmt::join(left, ", ")),
               "the cluster deletes them once it can"});
}

// Deletes the run, and keeps that in the job's folder.
int DeleteNow(const Invocation& invocation, const JobStore& store, const ClusterJob& job,
              const std::string& message) {
  // How far it came, if it still tells.
  const auto last = job.run->Status(k8s::OnceWithin(kLastStatusTime));
  const Status removed = kubernetes::RemoveRun(job.run->api(), job.run->namespace_name(),
                                               job.run->spec(), job.run->uid());
  if (!removed) return ReportClusterFailure("stop", removed.error());
  json status = last ? *last : PendingStatus(job.run->spec(), "kubernetes");
  if (job.folder) {
    if (last) kubernetes::KeepStatus(*job.folder, last->dump());
    // Also where somebody follows the run, who would otherwise not know why it has gone.
    WriteSubstituteResult(*job.folder, job.run->spec(), "stopped", 0, message);
    status = store.ReadStatus(job.name).value_or(status);
  } else {
    status = FinalStatus(std::move(status), "stopped", message);
  }
  return Report(invocation, job, status, kubernetes::ClearRun(*job.run));
}

// What to report once the job has ended, and what is left of it; nothing as long as it goes on.
struct Stopped {
  json status;
  std::vector<std::string> left;
};
Result<std::optional<Stopped>> LookForEnd(const JobStore& store, const ClusterJob& job) {
  if (job.folder && store.IsHeld(job.name)) return std::nullopt;  // who follows it clears it away
  if (job.folder && !store.IsRunning(job.name)) {
    MUSTER_ASSIGN(json status, store.ReadStatus(job.name));
    return Stopped{std::move(status), kubernetes::ClearRun(*job.run)};
  }
  MUSTER_ASSIGN(const RunLook look, job.run->Look(k8s::Within(kLookTime)));
  if (look.gone) {
    MUSTER_ASSIGN(json status, AskStatus(store, job, kLookTime));
    return Stopped{std::move(status), {}};
  }
  if (!look.finished) return std::nullopt;
  kubernetes::AwaitWorkers(*job.run);
  if (FetchEnd(store, job, look)) return LookForEnd(store, job);
  if (job.folder) return std::nullopt;
  // The end of a job that was started elsewhere stays for whoever has started it.
  MUSTER_ASSIGN(
      std::vector<std::string> workers,
      kubernetes::WorkersLeft(job.run->api(), job.run->namespace_name(), job.run->spec()));
  return Stopped{EndOf(job.run->spec(), look), std::move(workers)};
}

// Until the coordinator has heard it, or the job has ended: true. False if there has never been a coordinator that could.
Result<bool> AskToStop(const ClusterJob& job) {
  std::string told;
  for (const TimePoint deadline = MonotonicNow() + kAskTime;;) {
    const auto asked = job.run->Stop(false, "stopped by launcher stop", k8s::Within(kAnswerTime));
    if (asked || asked.error().code == Code::kFailedPrecondition) return true;
    MUSTER_ASSIGN(const RunLook look, job.run->Look(k8s::Within(kLookTime)));
    if (look.gone || look.finished) return true;
    if (!look.started) return false;
    const std::string why = kubernetes::WhyCoordinatorWaits(look.scene);
    if (MonotonicNow() >= deadline) {
      return WithHint(Err(Code::kUnavailable, "{}: {}", job.name, why),
                      "launcher stop --now deletes the run");
    }
    if (why != told) PrintError(why + "\n");
    told = why;
    ::poll(nullptr, 0, kLookEveryMs);
  }
}

}  // namespace

Result<int> ResizeClusterJob(const Invocation& invocation, const ClusterJob& job,
                             const WorkerRange& workers) {
  const auto before = job.run->Status(k8s::OnceWithin(kLookTime));
  const auto answer = job.run->Resize(workers, k8s::Within(kAnswerTime));
  if (!answer) {
    return ReportClusterFailure(
        "resize", Unanswered(job, answer.error(), "try again once the coordinator answers"));
  }
  if (invocation.json()) {
    Print(answer->dump() + "\n");
    return 0;
  }
  Print(
      fmt::format("{0}: from {1} to {2}; the others keep training meanwhile\n"
                  "  watch it: launcher events {0} -f, launcher status {0}\n",
                  job.name, before ? FieldOr(*before, "world_size", 0) : 0,
                  WorkersText(workers.min, workers.max)));
  return 0;
}

Result<int> StopClusterJob(const Invocation& invocation, const JobStore& store,
                           const ClusterJob& job) {
  if (invocation.Has("now")) {
    if (!Confirmed(invocation, job)) {
      return Err(Code::kFailedPrecondition, "{} goes on: deleting it was not confirmed", job.name);
    }
    return DeleteNow(invocation, store, job, "deleted by launcher stop --now");
  }
  if (!invocation.json()) PrintError(fmt::format("stopping {} after this step\n", job.name));
  const Result<bool> asked = AskToStop(job);
  if (!asked) return ReportClusterFailure("stop", asked.error());
  if (!*asked) return DeleteNow(invocation, store, job, "stopped before anything ran");
  for (const TimePoint deadline = MonotonicNow() + kStopTime; MonotonicNow() < deadline;) {
    const auto ended = LookForEnd(store, job);
    if (!ended) return ReportClusterFailure("stop", ended.error());
    if (*ended) return Report(invocation, job, (*ended)->status, (*ended)->left);
    ::poll(nullptr, 0, kLookEveryMs);
  }
  return ReportClusterFailure(
      "stop", {Code::kDeadlineExceeded,
               fmt::format("{} has not stopped within {} s", job.name, kStopTime.count()),
               "launcher stop --now deletes the run"});
}

}  // namespace muster
