// `launcher run --platform kubernetes`: makes the run, then stays with it.
#include <poll.h>

#include <csignal>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "launcher/platform/kubernetes/follow_run.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "launcher/process/signals.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/reporter.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/shipping.h"
#include "launcher/verbs/text.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

using kubernetes::ClusterRun;
using nlohmann::ordered_json;

std::string PlanText(const ClusterPlan& plan, const ClusterTarget& target,
                     const JobFolder& folder) {
  const ClusterRun& run = plan.run;
  const JobSpec& spec = run.spec;
  std::string text = fmt::format(
      "job {}: {} in namespace {} ({}), {} reduction\n  program {}\n  image   {}\n"
      "  run     {}\n  folder  {}\n",
      spec.name, WorkersText(spec.min_workers, spec.max_workers), run.namespace_name,
      target.config.origin, spec.reduce, ShellQuote(spec.argv), run.image,
      kubernetes::RunName(spec), folder.root().string());
  if (plan.bundle) text += fmt::format("  sends   {}\n", WhatIsSent(*plan.bundle));
  for (const Origin& value : plan.job.values) {
    if (value.overrides.empty()) continue;
    text += fmt::format("  {} {} overrides {} of the job file\n", value.from, value.value,
                        value.overrides);
  }
  return text;
}

std::string GoOnText(const std::string& name) {
  return fmt::format(
      "  how it is doing:  launcher status {0}\n"
      "  its output:       launcher logs {0} -f\n"
      "  what happens:     launcher events {0} -f\n"
      "  end it:           launcher stop {0}\n",
      name);
}

void PrintDetached(const Invocation& invocation, const ClusterRun& run) {
  if (!invocation.json()) {
    Print(fmt::format("{} goes on without this terminal\n{}", run.spec.name,
                      GoOnText(run.spec.name)));
    return;
  }
  const ordered_json object = {{"event", "detached"},
                               {"name", run.spec.name},
                               {"namespace", run.namespace_name},
                               {"run", kubernetes::RunName(run.spec)}};
  Print(object.dump() + "\n");
}

// Makes the objects while signals are heard: any of them gives up.
class Maker {
 public:
  Maker(k8s::ApiClient& api, const ClusterRun& run, const JobFolder& folder, ClusterPlace place)
      : api_(api), run_(run), folder_(folder), place_(std::move(place)) {}

  // The uid of the run, or why it is not there. Then nothing of it is left, as far as that could be done.
  Result<std::string> Make(const SignalFd& signals, int* interrupted_by) {
    MUSTER_ASSIGN(const std::string secret, folder_.ReadSecret());
    MUSTER_ASSIGN(const WakeFd done, WakeFd::Create());
    std::optional<Result<std::string>> made;
    std::stop_source stop;
    std::jthread making([&] {
      made = kubernetes::MakeRun(api_, run_, secret, stop.get_token(),
                                 [this](const std::string& uid) { Record(uid); });
      done.Notify();
    });
    pollfd waits[] = {{signals.fd(), POLLIN, 0}, {done.fd(), POLLIN, 0}};
    while (waits[1].revents == 0) {
      ::poll(waits, std::size(waits), -1);  // every call of MakeRun has a deadline
      for (const int number : signals.Read()) {
        *interrupted_by = number;
        stop.request_stop();
      }
    }
    making.join();
    if (made->has_value() && *interrupted_by == 0) return *made;
    if (place_.uid.empty() && *interrupted_by == 0 && IsRefusal(made->error().code)) return *made;
    const Status removed = kubernetes::RemoveRun(api_, run_.namespace_name, run_.spec, place_.uid);
    if (!removed) PrintError(fmt::format("{}\n", removed.error().ToString()));
    if (*interrupted_by != 0) return Err(Code::kCancelled, "ended before the run was there");
    return *made;
  }

 private:
  // Nothing was made; other errors do not tell.
  static bool IsRefusal(Code code) {
    return code != Code::kUnavailable && code != Code::kDeadlineExceeded &&
           code != Code::kDataLoss && code != Code::kInternal;
  }

  void Record(const std::string& uid) {
    place_.uid = uid;
    const Status written = folder_.WriteCluster(place_);
    if (!written) log::warn("file not written error=\"{}\"", written.error().ToString());
  }

  k8s::ApiClient& api_;
  const ClusterRun& run_;
  const JobFolder& folder_;
  ClusterPlace place_;
};

int ShowVerdicts(const Invocation& invocation, const ClusterPlan& plan,
                 const std::vector<kubernetes::Verdict>& verdicts) {
  int exit_code = 0;
  auto objects = ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& [kind, name, answer] : verdicts) {
    const std::string why = answer ? "" : answer.error().message;
    if (!answer) exit_code = std::max(exit_code, ClusterExitCode(answer.error().code));
    objects.push_back(
        {{"kind", kind}, {"name", name}, {"ok", answer.has_value()}, {"message", why}});
    rows.push_back({answer ? "ok" : "REFUSED", kind, name, why});
  }
  if (invocation.json()) {
    Print(ordered_json{{"ok", exit_code == 0},
                       {"objects", objects},
                       {"sends", plan.bundle ? WhatIsSent(*plan.bundle) : ""}}
              .dump() +
          "\n");
  } else {
    const std::string sends =
        plan.bundle ? fmt::format("it would send {}\n", WhatIsSent(*plan.bundle)) : "";
    Print(Table(rows) + sends + "nothing was made\n");
  }
  return exit_code;
}

Result<int> CheckOnly(const Invocation& invocation, k8s::ApiClient& api, const ClusterPlan& plan) {
  const auto verdicts = kubernetes::CheckRun(api, plan.run, RandomHex(32));
  if (!verdicts) return ReportClusterFailure("run", verdicts.error());
  return ShowVerdicts(invocation, plan, *verdicts);
}

void ReportLeft(const ClusterRun& run, const std::vector<std::string>& left) {
  constexpr size_t kMost = 5;
  if (left.empty()) return;
  const std::vector<std::string> some(left.begin(), left.begin() + std::min(left.size(), kMost));
  PrintError(
      fmt::format("still there in namespace {}: {}{}; the cluster deletes them once it can\n",
                  run.namespace_name, fmt::join(some, ", "), left.size() > kMost ? ", ..." : ""));
}

Result<int> Follow(const Invocation& invocation, const ClusterPlan& plan,
                   const kubernetes::RemoteRun& remote, const JobFolder& folder,
                   const SignalFd& signals) {
  const ClusterRun& run = plan.run;
  kubernetes::Sending sending{.detach = run.spec.detached};
  if (plan.bundle) {
    sending.bundle = &*plan.bundle;
    sending.what = WhatIsSent(*plan.bundle);
  }
  InitLog("launcher", "warn");
  std::optional<Reporter> reporter(ChooseStyle(invocation.json()));
  MUSTER_ASSIGN(const kubernetes::FollowOutcome outcome,
                kubernetes::FollowRun(remote, folder, *reporter, signals, sending));
  if (outcome.detached) {
    reporter.reset();  // what is left to show comes before
    PrintDetached(invocation, run);
    return outcome.exit_code;
  }
  reporter->Finish(run.spec.name, outcome.finished);
  ReportLeft(run, outcome.left);
  return outcome.exit_code;
}

}  // namespace

Result<int> RunOnCluster(const Invocation& invocation) {
  MUSTER_ASSIGN(ClusterTarget target, ChooseTarget(invocation));
  MUSTER_ASSIGN(ClusterPlan plan, PlanClusterRun(invocation, target.place.namespace_name));
  ClusterRun& run = plan.run;
  run.owner_uid.clear();
  run.coordinator_ip.clear();
  run.spec.id = RandomHex(16);
  run.spec.supervisor_pid = ::getpid();
  run.spec.created_ms = UnixMilliseconds();
  MUSTER_ASSIGN(auto api, k8s::ApiClient::Create(target.config));
  if (invocation.Has("dry-run")) return CheckOnly(invocation, *api, plan);

  MUSTER_ASSIGN(const SignalFd signals, SignalFd::Create({SIGINT, SIGTERM, SIGHUP}));
  MUSTER_ASSIGN(const std::filesystem::path home, MusterHome());
  MUSTER_ASSIGN(CreatedJob job, JobStore(home).Create(run.spec));
  target.place.run = kubernetes::RunName(run.spec);
  MUSTER_TRY(job.folder.WriteCluster(target.place));
  PrintError(PlanText(plan, target, job.folder));

  int interrupted_by = 0;
  Maker maker(*api, run, job.folder, target.place);
  const Result<std::string> uid = maker.Make(signals, &interrupted_by);
  if (!uid) {
    const int exit_code =
        interrupted_by != 0 ? 128 + interrupted_by : ClusterExitCode(uid.error().code);
    WriteSubstituteResult(job.folder, run.spec, interrupted_by != 0 ? "stopped" : "failed",
                          exit_code, uid.error().message);
    ReportClusterFailure("run", uid.error());
    return exit_code;
  }
  if (run.spec.detached && !plan.bundle) {
    PrintDetached(invocation, run);
    return 0;
  }
  MUSTER_ASSIGN(std::string secret, job.folder.ReadSecret());
  const kubernetes::RemoteRun remote(std::move(api), run.namespace_name, run.spec, *uid,
                                     std::move(secret));
  return Follow(invocation, plan, remote, job.folder, signals);
}

}  // namespace muster
