#include "launcher/platform/local/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "launcher/platform/local/job_link.h"
#include "launcher/platform/local/supervisor_core.h"
#include "launcher/process/signals.h"
#include "launcher/process/spawn.h"
#include "launcher/process/tree.h"
#include "runtime/base/environment.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kKillTime{2};
constexpr std::chrono::seconds kOrphanKillTime{1};
// A terminal and a wrapper (timeout, make) may both pass on what was one key press.
constexpr std::chrono::milliseconds kOnePress{20};
constexpr int kInternalError = 1;

UniqueFd OpenLog(const std::filesystem::path& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

class Supervisor {
 public:
  Supervisor(JobFolder folder, JobSpec spec, std::string secret, JobObserver& observer,
             SignalFd signals, WakeFd wake)
      : folder_(std::move(folder)),
        spec_(std::move(spec)),
        observer_(observer),
        signals_(std::move(signals)),
        wake_(std::move(wake)),
        secret_(std::move(secret)) {}

  JobOutcome Run() {
    Do(core_.Start(SlotNames(spec_.max_workers), MonotonicNow()));
    link_ = std::make_unique<JobLink>(folder_, spec_.id, secret_, [this] { wake_.Notify(); });
    while (!done_) Turn();
    link_.reset();
    signals_.Release();
    JobOutcome outcome;
    outcome.unkillable = KillDescendants({}, MonotonicNow() + kKillTime, [](pid_t, int) {});
    Conclude(outcome);
    return outcome;
  }

 private:
  void Turn() {
    pollfd fds[] = {{signals_.fd(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
    ::poll(fds, std::size(fds), WaitMs());
    for (const int signal : signals_.Read()) OnSignal(signal);
    HandleReaped();
    wake_.Clear();
    for (const std::string& event : link_->TakeEvents()) OnEvent(event);
    if (const auto slots = link_->TakeSlots()) Do(core_.SlotsWanted(*slots, MonotonicNow()));
    Do(core_.Tick(MonotonicNow()));
  }

  int WaitMs() const {
    const auto deadline = core_.next_deadline();
    if (!deadline) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - MonotonicNow());
    return static_cast<int>(std::max<int64_t>(0, left.count()));
  }

  void OnSignal(int signal) {
    if (signal == SIGCHLD) {
      ReapEnded([this](pid_t pid, int status) { reaped_.emplace_back(pid, status); });
    } else if (interrupted_by_ == 0) {
      interrupted_by_ = signal;
      interrupted_at_ = MonotonicNow();
      observer_.OnNote("stopping after this step (again to kill)");
      core_.StopRequested(MonotonicNow());
      link_->RequestStop(signal == SIGINT ? "stopped by Ctrl-C"
                                          : "stopped by " + SignalName(signal));
    } else if (MonotonicNow() - interrupted_at_ >= kOnePress) {
      observer_.OnNote("killing the job");
      Do(core_.Kill(MonotonicNow()));
    }
  }

  void OnEvent(const std::string& text) {
    const json event = json::parse(text, nullptr, false);
    if (FieldOr<std::string>(event, "event", "") == "finished") return OnFinished(text);
    if (const auto step = FieldOr<uint64_t>(event, "step", 0); step > step_) {
      step_ = step;
      core_.Progressed();
    }
    observer_.OnEvent(text);
  }

  void OnFinished(const std::string& text) {
    finished_ = text;
    Do(core_.Finished(MonotonicNow()));
  }

  void Do(const SupervisorCore::Actions& actions) {
    for (const SupervisorAction& action : actions) {
      switch (action.kind) {
        case SupervisorAction::Kind::kStartCoordinator:
          StartCoordinator();
          break;
        case SupervisorAction::Kind::kStartAgent:
          StartAgent(action.slot);
          break;
        case SupervisorAction::Kind::kTerminateAgent:
          if (const auto agent = agents_.find(action.slot); agent != agents_.end()) {
            ::kill(agent->second, SIGTERM);
          }
          break;
        case SupervisorAction::Kind::kTerminateCoordinator:
          if (coordinator_ > 0) ::kill(coordinator_, SIGTERM);
          break;
        case SupervisorAction::Kind::kKillAll:
          KillDescendants({}, MonotonicNow() + kKillTime,
                          [this](pid_t pid, int status) { reaped_.emplace_back(pid, status); });
          wake_.Notify();
          break;
        case SupervisorAction::Kind::kDone:
          done_ = true;
          break;
      }
    }
  }

  Result<pid_t> SpawnSelf(std::vector<std::string> argv, const std::string& log_name,
                          int death_signal) {
    const UniqueFd log_file = OpenLog(folder_.logs() / log_name);
    SpawnSpec spawn;
    spawn.executable = OwnExecutable();
    spawn.argv = std::move(argv);
    spawn.environment = EnvironmentWith({});
    spawn.cwd = folder_.root();
    spawn.stdout_fd = log_file.get();
    spawn.stderr_fd = log_file.get();
    spawn.death_signal = death_signal;
    return Spawn(spawn);
  }

  void StartCoordinator() {
    const auto pid = SpawnSelf({"launcher", "coordinator", "--job-dir", folder_.root().string()},
                               "coordinator.log", SIGKILL);
    coordinator_ = pid ? *pid : -1;
    if (!pid) NoteFailedStart("the coordinator", pid.error(), coordinator_);
  }

  void StartAgent(const std::string& slot) {
    // SIGTERM, not SIGKILL: an agent first kills its worker's whole tree.
    const auto pid =
        SpawnSelf({"launcher", "agent", "--job-dir", folder_.root().string(), "--slot", slot},
                  "agent-" + slot + ".log", SIGTERM);
    agents_[slot] = pid ? *pid : --failed_start_;
    if (!pid) NoteFailedStart("the agent of " + slot, pid.error(), agents_[slot]);
  }

  // A start that failed is handled like an early death, with its backoff: later, and not from within Do().
  void NoteFailedStart(const std::string& what, const Error& error, pid_t stand_in) {
    observer_.OnNote(fmt::format("{} could not be started: {}", what, error.ToString()));
    reaped_.emplace_back(stand_in, kInternalError << 8);
    wake_.Notify();
  }

  void HandleReaped() {
    while (!reaped_.empty()) {
      const auto [pid, status] = reaped_.front();
      reaped_.pop_front();
      if (pid == coordinator_) {
        OnCoordinatorEnded(status);
      } else {
        OnAgentEnded(pid, status);
      }
    }
  }

  void OnCoordinatorEnded(int status) {
    RemoveHalfWritten(folder_.root(), std::exchange(coordinator_, 0));
    const TimePoint now = MonotonicNow();
    // It may have died between writing the result and telling us.
    if (finished_.empty()) {
      if (const auto result = ReadFile(folder_.result())) OnFinished(FirstLine(*result));
    }
    if (!core_.ending()) {
      observer_.OnNote(
          fmt::format("the coordinator ended with {}; training goes on, a new one takes over",
                      DescribeExit(status)));
    }
    Do(core_.CoordinatorEnded(now));
  }

  void OnAgentEnded(pid_t pid, int status) {
    const auto agent = std::find_if(agents_.begin(), agents_.end(),
                                    [pid = pid](const auto& entry) { return entry.second == pid; });
    if (agent == agents_.end()) return;  // an orphan that had become ours
    const std::string slot = agent->first;
    agents_.erase(agent);
    KillOrphans();
    const bool ordered = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    log::info("agent={} ended=\"{}\"", slot, DescribeExit(status));
    if (!core_.ending() && !ordered) {
      link_->ReportSlot({slot, std::max(pid, 0), WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                         WIFSIGNALED(status) ? WTERMSIG(status) : 0});
    }
    Do(core_.AgentEnded(slot, ordered, MonotonicNow()));
  }

  // What an agent has left when it was killed: its worker's tree is ours now.
  void KillOrphans() {
    std::set<pid_t> spared;
    if (coordinator_ > 0) spared.insert(coordinator_);
    for (const auto& [slot, pid] : agents_) spared.insert(pid);
    KillDescendants(spared, MonotonicNow() + kOrphanKillTime,
                    [this](pid_t pid, int status) { reaped_.emplace_back(pid, status); });
  }

  void Conclude(JobOutcome& outcome) {
    if (finished_.empty()) {
      const bool failed = !core_.failure().empty();
      outcome.exit_code = failed ? kInternalError : 128 + interrupted_by_;
      finished_ =
          WriteSubstituteResult(folder_, spec_, failed ? "failed" : "stopped", outcome.exit_code,
                                failed ? core_.failure() : "killed by the user");
    }
    const json result = json::parse(finished_, nullptr, false);
    outcome.finished = finished_;
    outcome.exit_code = FieldOr(result, "exit_code", kInternalError);
    if (interrupted_by_ != 0 && FieldOr<std::string>(result, "phase", "") == "stopped") {
      outcome.exit_code = 128 + interrupted_by_;
    }
  }

  const JobFolder folder_;
  const JobSpec spec_;
  JobObserver& observer_;
  SignalFd signals_;
  WakeFd wake_;
  const std::string secret_;
  SupervisorCore core_{SupervisorPolicy{}};
  std::map<std::string, pid_t> agents_;  // running, by slot
  pid_t coordinator_ = 0;                // 0: none
  pid_t failed_start_ = -1;  // stands for the pid of a process that could not be started
  std::deque<std::pair<pid_t, int>> reaped_;  // with the wait status, to be handled
  TimePoint interrupted_at_{};
  int interrupted_by_ = 0;  // the first signal
  uint64_t step_ = 0;
  std::string finished_;
  bool done_ = false;
  std::unique_ptr<JobLink> link_;  // last: its threads use wake_
};

}  // namespace

Result<JobOutcome> SuperviseJob(const JobFolder& folder, const JobSpec& spec,
                                JobObserver& observer) {
  MUSTER_ASSIGN(SignalFd signals, SignalFd::Create({SIGCHLD, SIGINT, SIGTERM, SIGHUP}));
  MUSTER_ASSIGN(WakeFd wake, WakeFd::Create());
  MUSTER_TRY(BecomeSubreaper());
  MUSTER_ASSIGN(std::string secret, folder.ReadSecret());
  return Supervisor(folder, spec, std::move(secret), observer, std::move(signals), std::move(wake))
      .Run();
}

}  // namespace muster
