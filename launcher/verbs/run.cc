#include "launcher/verbs/run.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "launcher/platform/local/supervisor.h"
#include "launcher/process/signals.h"
#include "launcher/verbs/reporter.h"
#include "launcher/verbs/text.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kDetachWait{30};
constexpr int kLookEveryMs = 10;

std::string PlanText(const RunPlan& plan, const JobSpec& spec, const JobFolder& folder) {
  std::string text =
      fmt::format("job {}: {} on this machine, {} reduction\n  program {}\n  folder  {}\n",
                  spec.name, WorkersText(spec.min_workers, spec.max_workers), spec.reduce,
                  ShellQuote(spec.argv), folder.root().string());
  if (!spec.checkpoint.empty()) {
    text += fmt::format("  checkpoints in {} every {} steps{}\n", spec.checkpoint.string(),
                        spec.checkpoint_every, spec.resume ? ", resumes from the newest" : "");
  }
  for (const Origin& value : plan.values) {
    if (value.overrides.empty()) continue;
    text += fmt::format("  {} {} overrides {} of the job file\n", value.from, value.value,
                        value.overrides);
  }
  for (const std::string& key : plan.set_aside) {
    text += fmt::format("  set aside on this machine: {}\n", key);
  }
  return text;
}

void ReportUnkillable(const std::vector<pid_t>& pids) {
  if (pids.empty()) return;
  PrintError(
      fmt::format("could not kill: pid {} (in uninterruptible sleep); look at them with ps\n",
                  fmt::join(pids, ", ")));
}

Result<int> RunForeground(const Invocation& invocation, const JobSpec& spec,
                          const CreatedJob& job) {
  // Progress, notes and the log of the launcher itself share stderr.
  InitLog("launcher", "warn");
  Reporter reporter(ChooseStyle(invocation.json()));
  MUSTER_ASSIGN(const JobOutcome outcome, SuperviseJob(job.folder, spec, reporter));
  reporter.Finish(spec.name, outcome.finished);
  ReportUnkillable(outcome.unkillable);
  return outcome.exit_code;
}

// Nobody watches a detached job; its events are in its folder, and the notes go to its log.
class LogObserver final : public JobObserver {
 public:
  void OnEvent(const std::string&) override {}
  void OnNote(const std::string& text) override { log::info("note=\"{}\"", text); }
};

// Makes the process a daemon: a session of its own, no terminal, no descriptor of the caller's.
Status CutLoose(const CreatedJob& job) {
  ::setsid();
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::filesystem::path path = job.folder.logs() / "supervisor.log";
  UniqueFd log_file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!null || !log_file) return ErrnoError(errno, "cannot open " + path.string());
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(log_file.get(), STDOUT_FILENO);
  ::dup2(log_file.get(), STDERR_FILENO);
  null.reset();
  log_file.reset();
  const auto lock = static_cast<unsigned>(job.lock.get());
  if (lock > 3) ::close_range(3, lock - 1, 0);
  ::close_range(lock + 1, ~0U, 0);
  return {};
}

int SuperviseDetached(JobSpec spec, const CreatedJob& job) {
  const Status loose = CutLoose(job);
  InitLog("launcher " + spec.name, "info");
  spec.supervisor_pid = ::getpid();
  const Status written = loose ? job.folder.WriteSpec(spec) : loose;
  LogObserver observer;
  const auto outcome = written ? SuperviseJob(job.folder, spec, observer)
                               : Result<JobOutcome>(tl::unexpected(written.error()));
  if (outcome) return outcome->exit_code;
  log::error("supervisor={}", outcome.error().ToString());
  WriteSubstituteResult(job.folder, spec, "failed", 1, outcome.error().ToString());
  return 1;
}

// Flags that would be without effect here.
Status RefuseClusterFlags(const Invocation& invocation) {
  for (const char* flag :
       {"namespace", "kubeconfig", "context", "image", "service-account", "dry-run"}) {
    if (!invocation.Has(flag)) continue;
    return WithHint(
        Err(Code::kInvalidArgument, "--{} is for jobs on Kubernetes, this one runs here", flag),
        "add --platform kubernetes");
  }
  return {};
}

// What the caller of --detach sees when the job has ended already.
int ReportEnd(const Invocation& invocation, const JobSpec& spec, const std::string& finished) {
  const json object = json::parse(finished, nullptr, false);
  Print(invocation.json() ? finished : Summary(spec.name, object));
  return FieldOr(object, "exit_code", 1);
}

int ReportDetached(const Invocation& invocation, const JobSpec& spec, pid_t pid,
                   const std::string& phase) {
  if (invocation.json()) {
    const nlohmann::ordered_json object = {
        {"event", "detached"}, {"name", spec.name}, {"pid", pid}, {"phase", phase}};
    Print(object.dump() + "\n");
    return 0;
  }
  Print(
      fmt::format("{0} is {1} and goes on without this terminal\n"
                  "  how it is doing:  launcher status {0}\n"
                  "  its output:       launcher logs {0} -f\n"
                  "  what happened:    launcher events {0} -f\n"
                  "  end it:           launcher stop {0}\n",
                  spec.name, phase, 0));
  return 0;
}

Result<int> RunDetached(const Invocation& invocation, const JobSpec& spec, const JobStore& store,
                        CreatedJob job) {
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoError(errno, "cannot fork");
  if (pid == 0) ::_exit(SuperviseDetached(spec, job));
  UnblockSignals({SIGINT, SIGTERM, SIGHUP, SIGCHLD});  // ending this process ends the waiting only
  job.lock.reset();                                    // the child holds it
  std::string phase = "pending";
  for (const TimePoint end = MonotonicNow() + kDetachWait; MonotonicNow() < end;) {
    const bool ended = ::waitpid(pid, nullptr, WNOHANG) == pid;
    if (const auto result = ReadFile(job.folder.result())) {
      return ReportEnd(invocation, spec, *result);
    }
    if (ended) {
      return Err(Code::kInternal, "the supervisor of {} died at once; its log is {}", spec.name,
                 (job.folder.logs() / "supervisor.log").string());
    }
    if (const auto status = store.ReadStatus(spec.name)) {
      phase = FieldOr(*status, "phase", phase);
      if (phase != "pending" && !IsFinalPhase(phase)) break;
    }
    ::poll(nullptr, 0, kLookEveryMs);
  }
  return ReportDetached(invocation, spec, pid, phase);
}

}  // namespace

int64_t UnixMilliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Result<int> RunJob(const Invocation& invocation) {
  // From here on they are the supervisor's, whichever thread they would hit, and however early they come.
  BlockSignals({SIGINT, SIGTERM, SIGHUP, SIGCHLD});
  MUSTER_ASSIGN(const bool cluster, WantsCluster(invocation));
  if (cluster) return RunOnCluster(invocation);
  MUSTER_TRY(RefuseClusterFlags(invocation));
  MUSTER_ASSIGN(const RunPlan plan, PlanRun(invocation, PlanFor::kRun));
  JobSpec spec = plan.spec;
  MUSTER_ASSIGN(const std::filesystem::path home, MusterHome());
  const JobStore store(home);
  spec.id = RandomHex(16);
  spec.supervisor_pid = ::getpid();
  spec.created_ms = UnixMilliseconds();
  MUSTER_ASSIGN(CreatedJob job, store.Create(spec));
  PrintError(PlanText(plan, spec, job.folder));
  if (spec.detached) return RunDetached(invocation, spec, store, std::move(job));
  return RunForeground(invocation, spec, job);
}

}  // namespace muster
