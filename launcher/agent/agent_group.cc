#include "launcher/agent/agent_group.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "launcher/process/signals.h"
#include "launcher/process/spawn.h"
#include "launcher/process/tree.h"
#include "runtime/base/environment.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kKillTime{2};

class AgentGroup {
 public:
  explicit AgentGroup(SignalFd signals) : signals_(std::move(signals)) {}
  ~AgentGroup() { KillAll(); }  // those that were started before one could not be

  Status Start(const std::filesystem::path& job_folder, const std::string& slot,
               const AgentPlace& place) {
    SpawnSpec spawn;
    spawn.executable = OwnExecutable();
    spawn.argv = {"launcher", "agent", "--job-dir", job_folder.string(),
                  "--slot",   slot,    "--listen",  place.listen_address};
    if (!place.shares_at.empty()) {
      spawn.argv.insert(spawn.argv.end(), {"--shares-at", place.shares_at});
    }
    spawn.environment = EnvironmentWith({});
    spawn.stdout_fd = STDOUT_FILENO;
    spawn.stderr_fd = STDERR_FILENO;
    MUSTER_ASSIGN(const pid_t pid, Spawn(spawn));
    agents_[pid] = slot;
    return {};
  }

  int Run() {
    while (!agents_.empty()) {
      pollfd wait = {signals_.fd(), POLLIN, 0};
      ::poll(&wait, 1, -1);  // each agent ends when its coordinator or its machine says so
      for (const int signal : signals_.Read()) OnSignal(signal);
    }
    return exit_code_;
  }

 private:
  void OnSignal(int signal) {
    if (signal == SIGCHLD) {
      ReapEnded([this](pid_t pid, int status) { OnEnded(pid, status); });
      if (exit_code_ != 0) KillAll();
      return;
    }
    log::info("signal={} action=pass-on agents={}", SignalName(signal), agents_.size());
    for (const auto& [pid, slot] : agents_) ::kill(pid, signal);
  }

  void OnEnded(pid_t pid, int status) {
    const auto agent = agents_.find(pid);
    if (agent == agents_.end()) return;  // an orphan that had become ours
    log::info("agent={} ended=\"{}\"", agent->second, DescribeExit(status));
    agents_.erase(agent);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (exit_code_ == 0) exit_code_ = code;
  }

  void KillAll() {
    KillDescendants({}, MonotonicNow() + kKillTime,
                    [this](pid_t pid, int status) { OnEnded(pid, status); });
    agents_.clear();
  }

  SignalFd signals_;
  std::map<pid_t, std::string> agents_;  // that run, with their slots
  int exit_code_ = 0;
};

}  // namespace

Result<int> RunAgents(const std::filesystem::path& job_folder,
                      const std::vector<std::string>& slots, const AgentPlace& place) {
  MUSTER_ASSIGN(SignalFd signals, SignalFd::Create({SIGCHLD, SIGTERM, SIGINT, SIGHUP}));
  MUSTER_TRY(BecomeSubreaper());
  AgentGroup group(std::move(signals));
  AgentPlace own = place;
  for (const std::string& slot : slots) {
    MUSTER_TRY(group.Start(job_folder, slot, own));
    own.shares_at.clear();  // one source is said once
  }
  return group.Run();
}

}  // namespace muster
