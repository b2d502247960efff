// SupervisorCore: which processes of a local job should be started, restarted and ended, and when. A pure state machine:
// events and the time go in, actions come out. The shell (supervisor.h) owns processes, signals and the line to the coordinator.
//
//   supervising --- finished ---> draining ---> ending agents ---> ending coordinator ---> done
//        |                    (agents leave     (SIGTERM to         (SIGTERM, then
//        |                     as ordered)       what is left)       SIGKILL)
//        +--- killed, or gave up -----------------------------------------------------> done (SIGKILL to everything)
//
// Invariants: at most one process a slot and one coordinator; once draining has begun nothing is started any more.
//
// Threading: none; the shell serialises calls.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/backoff.h"
#include "runtime/base/time.h"

namespace muster {

struct SupervisorPolicy {
  // The first restart of a coordinator is immediate; the pauses after it:
  BackoffPolicy coordinator_restart{std::chrono::milliseconds(50), std::chrono::milliseconds(1000)};
  Duration coordinator_healthy_after = std::chrono::seconds(2);
  size_t coordinator_death_limit = 30;  // in the window without progress: the job is given up
  Duration coordinator_death_window = std::chrono::seconds(60);
  BackoffPolicy agent_restart{std::chrono::milliseconds(50), std::chrono::milliseconds(5000)};
  Duration agent_healthy_after = std::chrono::seconds(10);
  Duration drain_time = std::chrono::seconds(12);  // an agent gives its worker 10 s
  Duration stop_time = std::chrono::seconds(
      90);  // the coordinator gives a stop 60 s for the step and the checkpoint
  Duration end_time = std::chrono::seconds(2);  // between SIGTERM and SIGKILL
};

struct SupervisorAction {
  enum class Kind {
    kStartCoordinator,
    kStartAgent,            // of `slot`
    kTerminateAgent,        // SIGTERM to the agent of `slot`, which ends its worker's tree
    kTerminateCoordinator,  // SIGTERM
    kKillAll,               // SIGKILL to every descendant
    kDone,                  // nothing is left; always the last action
  };
  Kind kind = Kind::kDone;
  std::string slot;
  bool operator==(const SupervisorAction&) const = default;
};

class SupervisorCore {
 public:
  using Actions = std::vector<SupervisorAction>;

  explicit SupervisorCore(SupervisorPolicy policy) : policy_(policy) {}

  // Starts the coordinator and an agent for each slot, without waiting for the coordinator to ask.
  Actions Start(const std::vector<std::string>& slots, TimePoint now);

  // The processes that were started have ended; agents may also have failed to start.
  Actions CoordinatorEnded(TimePoint now);
  // `ordered`: it left with code 0, as the coordinator had told it.
  Actions AgentEnded(const std::string& slot, bool ordered, TimePoint now);

  // The coordinator says which slots should exist.
  Actions SlotsWanted(const std::vector<std::string>& slots, TimePoint now);

  // The job has moved on: coordinator deaths before this count no more.
  void Progressed() { deaths_.clear(); }

  // The job has ended and its result is known: everything leaves in order.
  Actions Finished(TimePoint now);
  // The user has asked for an end after the step: if the job has not finished by stop_time from now, it is killed.
  void StopRequested(TimePoint now);
  // Everything is killed at once.
  Actions Kill(TimePoint now);

  // Call it when next_deadline() has come.
  Actions Tick(TimePoint now);
  std::optional<TimePoint> next_deadline() const;

  // Whether the job has ended, and its processes are on their way out.
  bool ending() const { return phase_ != Phase::kSupervising; }

  // Why the job was given up, once it was; for the result and the log.
  const std::string& failure() const { return failure_; }

 private:
  enum class Phase { kSupervising, kDraining, kEndingAgents, kEndingCoordinator, kKilling, kDone };

  struct Slot {
    bool wanted = true;
    bool running = false;
    bool unwanted_meanwhile = false;  // it is leaving although it is wanted again
    int deaths = 0;                   // in a row
    TimePoint started{};
    std::optional<TimePoint> start_at;
    std::optional<TimePoint> end_at;  // not wanted, and should have left by then
  };

  void StartAgent(const std::string& name, Slot& slot, TimePoint now);
  void StartCoordinator(TimePoint now);
  void Unwant(Slot& slot, TimePoint now);
  void Want(const std::string& name, Slot& slot, TimePoint now);
  void Advance(TimePoint now);
  void KillAll(TimePoint now);
  bool AgentsRunning() const;
  void Add(SupervisorAction::Kind kind, const std::string& slot = "");
  Actions Take();

  const SupervisorPolicy policy_;
  Phase phase_ = Phase::kSupervising;
  std::map<std::string, Slot> slots_;
  bool coordinator_running_ = false;
  int coordinator_attempt_ = 0;
  TimePoint coordinator_started_{};
  std::optional<TimePoint> coordinator_start_at_;
  std::deque<TimePoint> deaths_;        // of the coordinator, without progress since
  std::optional<TimePoint> stop_by_;    // killed then, unless finished
  std::optional<TimePoint> phase_end_;  // of the ending phases
  std::string failure_;
  Actions actions_;
};

}  // namespace muster
