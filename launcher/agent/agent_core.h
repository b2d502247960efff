// AgentCore: when a slot's worker is started, restarted, asked to end and killed. A pure state machine: events and the time go
// in, actions come out. The shell (agent.h) owns processes, signals and the line to the coordinator.
//
//            start now                 ended, crash          backoff over
//   idle -------------> running -------------------> waiting -------------> running
//                         |  ended with 0, 2 or 6
//                         +--------------------------> held --- ordered to restart ---> running
//   any of them --- ordered to shut down, or drained for too long: leaving, SIGTERM: stopping, SIGKILL: killing --- worker gone ---> done
//
// Invariants: at most one worker exists; after kExit nothing follows.
//
// Threading: none; the shell serialises calls.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/base/backoff.h"
#include "runtime/base/time.h"

namespace muster {

struct AgentPolicy {
  BackoffPolicy restart{std::chrono::milliseconds(50), std::chrono::milliseconds(5000)};
  Duration healthy_after =
      std::chrono::seconds(1);  // a worker that lived this long starts a new count of crashes
  // A worker that the coordinator wants gone may still have its program's last words to say (save, print): it gets this
  // long to end by itself before SIGTERM.
  Duration leave_time = std::chrono::seconds(5);
  Duration grace = std::chrono::seconds(5);  // between SIGTERM and SIGKILL
  // An agent whose machine is taken away by notice waits so long for the coordinator to do without its worker. The whole of a notice
  // is longer: leave_time and grace come after this.
  Duration drain_time = std::chrono::seconds(18);
};

enum class AgentAction {
  kStartWorker,  // answer with WorkerStarted or WorkerEnded
  kTerminate,    // SIGTERM to the worker
  kKill,         // SIGKILL to the worker's whole tree; answer with WorkerEnded
  kExit,         // leave with code 0
};

class AgentCore {
 public:
  explicit AgentCore(AgentPolicy policy) : policy_(policy) {}

  std::vector<AgentAction> Start(TimePoint now);

  void WorkerStarted(TimePoint now);

  // The worker has ended and been reaped, or could not be started (exit code 126 or 127). `exit_code` is -1 after a signal.
  std::vector<AgentAction> WorkerEnded(int exit_code, TimePoint now);

  // Orders of the coordinator.
  std::vector<AgentAction> RestartWorker(TimePoint now);
  std::vector<AgentAction> ShutDown(TimePoint now);
  std::vector<AgentAction> ShutDownNow();
  // The machine goes soon. A worker that runs goes on: the coordinator has notice too, and orders it to leave without a loss.
  std::vector<AgentAction> Drain(TimePoint now);

  // Call it when next_deadline() has come.
  std::vector<AgentAction> Tick(TimePoint now);
  std::optional<TimePoint> next_deadline() const;

  // The policy's answer to an exit code, and a sentence for the log.
  static bool RestartsAfter(int exit_code);

 private:
  enum class State { kIdle, kRunning, kWaiting, kHeld, kLeaving, kStopping, kKilling, kDone };

  std::vector<AgentAction> StartNow();

  const AgentPolicy policy_;
  State state_ = State::kIdle;
  bool restart_at_once_ = false;  // the worker is being killed in order to be restarted
  bool leaving_ = false;          // the agent ends when the worker has
  int crashes_ = 0;               // in a row
  TimePoint started_{};
  std::optional<TimePoint> deadline_;
  std::optional<TimePoint> drain_end_;
};

}  // namespace muster
