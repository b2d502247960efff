#include "launcher/agent/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/agent/agent_core.h"
#include "launcher/agent/agent_link.h"
#include "launcher/agent/worker_log.h"
#include "launcher/job/job.h"
#include "launcher/process/signals.h"
#include "launcher/process/spawn.h"
#include "launcher/process/tree.h"
#include "runtime/base/environment.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/low_priority.h"

namespace muster {
namespace {

constexpr size_t kTailLines = 20;
constexpr size_t kTailBytes = 4096;
constexpr size_t kReadBytes = 64 << 10;
constexpr int kReadsPerTurn = 8;  // so that a program that prints without end delays no order
constexpr std::chrono::seconds kKillTime{1};

uint64_t UnixNanoseconds() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count());
}

// What a worker is told through its environment.
std::vector<std::string> WorkerEnvironment(const JobFolder& folder, const JobSpec& spec,
                                           const std::string& slot, uint64_t incarnation,
                                           const AgentPlace& place) {
  std::vector<std::string> changes;
  for (const auto& [name, value] : spec.environment) {
    changes.push_back(fmt::format("{}={}", name, value));
  }
  const std::vector<std::string> ours = {
      "MUSTER_JOB_DIR=" + folder.root().string(),
      "MUSTER_JOB=" + spec.id,
      "MUSTER_WORKER_ID=" + slot,
      fmt::format("MUSTER_INCARNATION={}", incarnation),
      "MUSTER_REDUCE=" + spec.reduce,
      "MUSTER_COLLECTIVES=" + spec.collectives,
      "MUSTER_DEVICE=" + spec.device,
      "MUSTER_LISTEN=" + place.listen_address,
      "MUSTER_CHECKPOINT=" + spec.checkpoint.string(),
      fmt::format("MUSTER_CHECKPOINT_EVERY={}", spec.checkpoint_every),
      fmt::format("MUSTER_RESUME={}", spec.resume ? 1 : 0),
      fmt::format("MUSTER_STEP_TIMEOUT_MS={}", spec.step_timeout_ms),
      fmt::format("MUSTER_HEARTBEAT_TIMEOUT_MS={}", spec.heartbeat_timeout_ms),
  };
  changes.insert(changes.end(), ours.begin(), ours.end());
  // Workers share the machine's cores; one thread each unless the user says otherwise.
  for (const char* name : {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (std::getenv(name) != nullptr || spec.environment.contains(name)) continue;
    changes.push_back(fmt::format("{}=1", name));
  }
  return EnvironmentWith(changes);
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class AgentLoop {
 public:
  AgentLoop(JobFolder folder, JobSpec spec, std::string secret, std::string slot, AgentPlace place,
            SignalFd signals, WakeFd wake)
      : folder_(std::move(folder)),
        spec_(std::move(spec)),
        secret_(std::move(secret)),
        slot_(std::move(slot)),
        place_(std::move(place)),
        signals_(std::move(signals)),
        wake_(std::move(wake)),
        log_(place_.in_pod ? WorkerLog::ToStdout(place_.has_neighbours ? "[" + slot_ + "] " : "")
                           : WorkerLog(folder_.WorkerLog(slot_))) {}

  // Returns the exit code of the agent.
  int Run() {
    // The worker first: it has more to do before the first step than the line to the coordinator.
    Do(core_.Start(MonotonicNow()));
    link_ = std::make_unique<AgentLink>(folder_, spec_.id, secret_, slot_, place_.shares_at,
                                        [this] { wake_.Notify(); });
    for (const SlotWorkerReport& report : std::exchange(early_reports_, {})) link_->Report(report);
    while (!done_) Turn();
    KillDescendants({}, MonotonicNow() + kKillTime, [](pid_t, int) {});
    return signal_ == 0 ? 0 : 128 + signal_;
  }

 private:
  void Turn() {
    pollfd fds[] = {{signals_.fd(), POLLIN, 0},
                    {wake_.fd(), POLLIN, 0},
                    {stdout_.get(), POLLIN, 0},
                    {stderr_.get(), POLLIN, 0}};
    ::poll(fds, std::size(fds), WaitMs());
    if (fds[2].revents != 0) Drain(stdout_, false, kReadsPerTurn);
    if (fds[3].revents != 0) Drain(stderr_, true, kReadsPerTurn);
    for (const int signal : signals_.Read()) OnSignal(signal);
    wake_.Clear();
    for (const SlotOrder& order : link_->TakeOrders()) OnOrder(order);
    Do(core_.Tick(MonotonicNow()));
  }

  int WaitMs() const {
    if (!core_.next_deadline()) return -1;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(*core_.next_deadline() - MonotonicNow());
    return static_cast<int>(std::max<int64_t>(0, left.count()));
  }

  void OnSignal(int signal) {
    if (signal == SIGCHLD) {
      ReapEnded([this](pid_t pid, int status) { OnReaped(pid, status); });
    } else if (signal == SIGTERM && place_.in_pod && !std::exchange(draining_, true)) {
      log::info("signal={} action=drain", SignalName(signal));
      Do(core_.Drain(MonotonicNow()));
    } else {
      log::info("signal={} action=kill-worker", SignalName(signal));
      signal_ = signal;
      Do(core_.ShutDownNow());
    }
  }

  void OnOrder(const SlotOrder& order) {
    log::info("order={} reason=\"{}\"", static_cast<int>(order.kind), order.reason);
    const TimePoint now = MonotonicNow();
    switch (order.kind) {
      case SlotOrder::Kind::kRestartWorker:
        return Do(core_.RestartWorker(now));
      case SlotOrder::Kind::kShutDown:
        return Do(core_.ShutDown(now));
      case SlotOrder::Kind::kShutDownNow:
        return Do(core_.ShutDownNow());
    }
  }

  void Do(const std::vector<AgentAction>& actions) {
    for (const AgentAction action : actions) {
      switch (action) {
        case AgentAction::kStartWorker:
          StartWorker();
          break;
        case AgentAction::kTerminate:
          ::kill(worker_, SIGTERM);
          break;
        case AgentAction::kKill:
          KillWorker();
          break;
        case AgentAction::kExit:
          done_ = true;
          break;
      }
    }
  }

  void KillWorker() {
    // What follows from the worker's end comes after the killing, or a worker started again at once would be killed too.
    std::vector<std::pair<pid_t, int>> reaped;
    KillDescendants({}, MonotonicNow() + kKillTime,
                    [&](pid_t pid, int status) { reaped.emplace_back(pid, status); });
    for (const auto& [pid, status] : reaped) OnReaped(pid, status);
  }

  void StartWorker() {
    const bool replaces = incarnation_ != 0;
    // Larger than the one before even if the clock was set back.
    incarnation_ = std::max(incarnation_ + 1, UnixNanoseconds());
    tail_.Clear();
    const Result<pid_t> started = SpawnWorker(replaces);
    if (!started) {
      log_.Note(started.error().message);
      Report({.kind = SlotWorkerReport::Kind::kExited,
              .exit_code = started.error().code == Code::kNotFound ? 127 : 126,
              .error = started.error().message});
      return Do(core_.WorkerEnded(127, MonotonicNow()));
    }
    worker_ = *started;
    core_.WorkerStarted(MonotonicNow());
    log_.Note(fmt::format("{} started, pid {}", slot_, worker_));
    Report({.kind = SlotWorkerReport::Kind::kStarted, .pid = worker_});
  }

  // Others train here, and until this worker is in their ring it must not take the cores from them. One that replaces another is in a
  // hurry: as long as it is not there, fewer hold the state.
  bool StartsAtLowPriority(bool replaces) const {
    if (replaces || place_.in_pod) return false;
    const std::string text = ReadFile(folder_.status()).value_or("");
    const nlohmann::json status = nlohmann::json::parse(text, nullptr, false);
    const std::string phase = status.is_object() ? status.value("phase", "") : "";
    return (phase == "running" || phase == "resizing") && MayLeaveLowPriority();
  }

  Result<pid_t> SpawnWorker(bool replaces) {
    MUSTER_ASSIGN(Pipe out, MakePipe());
    MUSTER_ASSIGN(Pipe err, MakePipe());
    SpawnSpec spawn;
    spawn.executable = spec_.executable;
    spawn.argv = spec_.argv;
    spawn.environment = WorkerEnvironment(folder_, spec_, slot_, incarnation_, place_);
    spawn.cwd = spec_.cwd;
    spawn.stdout_fd = out.write_end.get();
    spawn.stderr_fd = err.write_end.get();
    spawn.low_priority = StartsAtLowPriority(replaces);
    if (spawn.low_priority) {
      spawn.environment.push_back(fmt::format("MUSTER_NICE={}", ::getpriority(PRIO_PROCESS, 0)));
    }
    MUSTER_ASSIGN(const pid_t pid, Spawn(spawn));
    (void)Failpoint("agent.spawned");
    stdout_ = std::move(out.read_end);
    stderr_ = std::move(err.read_end);
    return pid;
  }

  void OnReaped(pid_t pid, int status) {
    if (pid != worker_) return;  // a grandchild that had become ours
    worker_ = 0;
    Drain(stdout_, false, kReadsPerTurn);
    Drain(stderr_, true, kReadsPerTurn);
    log_.Note(fmt::format("{} ended: {}", slot_, DescribeExit(status)));
    const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    Report({.kind = SlotWorkerReport::Kind::kExited,
            .pid = pid,
            .exit_code = exit_code,
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .last_output = tail_.Text()});
    // What the program has started ends with it.
    KillDescendants({}, MonotonicNow() + kKillTime, [](pid_t, int) {});
    Do(core_.WorkerEnded(exit_code, MonotonicNow()));
  }

  void Report(SlotWorkerReport report) {
    report.incarnation = incarnation_;
    if (link_ == nullptr) {
      early_reports_.push_back(std::move(report));
    } else {
      link_->Report(report);
    }
  }

  void Drain(UniqueFd& fd, bool keep_tail, int reads) {
    char buffer[kReadBytes];
    while (fd && reads-- > 0) {
      const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
      if (got == 0) fd.reset();
      if (got <= 0) return;
      const std::string_view text(buffer, static_cast<size_t>(got));
      log_.Append(text);
      if (keep_tail) tail_.Append(text);
    }
  }

  const JobFolder folder_;
  const JobSpec spec_;
  const std::string secret_;
  const std::string slot_;
  const AgentPlace place_;
  SignalFd signals_;
  WakeFd wake_;
  WorkerLog log_;
  TailBuffer tail_{kTailLines, kTailBytes};
  AgentCore core_{AgentPolicy{}};
  std::vector<SlotWorkerReport> early_reports_;  // before the link exists
  pid_t worker_ = 0;
  uint64_t incarnation_ = 0;
  UniqueFd stdout_;
  UniqueFd stderr_;
  int signal_ = 0;  // that ended the agent
  bool draining_ = false;
  bool done_ = false;
  std::unique_ptr<AgentLink> link_;  // last: its threads use wake_
};

}  // namespace

Result<int> RunAgent(const std::filesystem::path& job_folder, const std::string& slot,
                     const AgentPlace& place) {
  MUSTER_ASSIGN(SignalFd signals, SignalFd::Create({SIGCHLD, SIGTERM, SIGINT, SIGHUP}));
  MUSTER_ASSIGN(WakeFd wake, WakeFd::Create());
  MUSTER_TRY(BecomeSubreaper());
  const JobFolder folder(job_folder);
  MUSTER_ASSIGN(JobSpec spec, folder.ReadSpec());
  MUSTER_ASSIGN(std::string secret, folder.ReadSecret());
  return AgentLoop(folder, std::move(spec), std::move(secret), slot, place, std::move(signals),
                   std::move(wake))
      .Run();
}

}  // namespace muster
