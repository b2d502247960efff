// Coordinator: who is a member, which generation comes next, and why. A pure state machine: events and the time go in, actions
// come out, each decision with a sentence that says why. The shell (service.h) owns threads, streams, clock and disk.
//
//                    enough workers             all finished
//   pending ----------------------> running -------------------> succeeded | stopped
//      ^                            |  ^  | ^
//      | all members lost    a loss |  |  | | switched
//      +---------- recovering <-----+  |  v |
//                       |   resumed    |  resizing   (a prepared generation is being voted for)
//                       +--------------+
//   any of them ----> failed (crash loop, worker's error, no quorum in time)
//
// Invariants: generation numbers only grow, and one is persisted before anybody hears of it; a generation has one membership;
// a worker is in a generation only by its newest incarnation.
//
// Threading: none; the shell serialises calls.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/rendezvous/coordinator_actions.h"
#include "launcher/rendezvous/coordinator_events.h"
#include "launcher/rendezvous/coordinator_options.h"
#include "launcher/rendezvous/coordinator_state.h"
#include "launcher/rendezvous/coordinator_worker.h"
#include "launcher/rendezvous/job_status.h"
#include "launcher/rendezvous/rank_index.h"
#include "launcher/rendezvous/sides.h"
#include "runtime/base/time.h"
#include "runtime/core/protocol.h"

namespace muster {

class Coordinator {
 public:
  // `restored` is what the journal of a former coordinator of the same job holds.
  Coordinator(CoordinatorOptions options, std::optional<CoordinatorState> restored, TimePoint now);

  // The actions to start with (slots, and what a restored coordinator must say).
  std::vector<CoordinatorAction> Start(TimePoint now);

  std::vector<CoordinatorAction> Handle(const CoordinatorEvent& event, TimePoint now);

  // Why ResizeRequested{min, max} would be refused; nothing if it is fine.
  std::optional<std::string> ResizeObjection(int min_workers, int max_workers) const;

  JobStatus Status() const;
  bool finished() const { return finished_; }

 private:
  using Worker = WorkerRecord;
  using Workers = std::map<std::string, Worker>;
  // The change under way, for its event.
  struct Change {
    MembershipChange record;
    uint64_t generation = 0;
    std::set<std::string> resumed;
  };

  void On(const WorkerHello& event);
  void On(const WorkerStreamLost& event);
  void On(const WorkerReported& event);
  void On(const AgentAttached& event);
  void On(const AgentAlive& event);
  void On(const WorkerStarted& event);
  void On(const WorkerExited& event);
  void On(const SlotExited& event);
  void On(const SlotsOffered& event);
  void On(const PlatformNoted& event);
  void On(const PlatformFailed& event);
  void On(const ResizeRequested& event);
  void On(const StopRequested& event);
  void On(const RecordAway& event);
  void On(const RecordBack& event);
  void On(const Tick& event);

  // coordinator_workers.cc
  bool AcceptProgram(const Hello& hello);
  bool IsRoutine(const Worker& worker, const Report& report) const;
  void RepeatOrders(Worker& worker);
  uint64_t StrayGeneration(const Hello& hello) const;
  void Await(const Member& member);
  void TakeFigures(Worker& worker, const Report& report);
  void OnProgress(const Report& report);
  void NoteSwitch(const std::string& id, uint64_t generation);
  void OnRevoked(Worker& worker, const Report& report);
  void OnBuildFailed(const Report& report);
  void OnResumed(const Report& report);
  void OnFinished(const Report& report);
  void OnFailed(const Report& report);

  // coordinator_agents.cc
  bool ExitEndsJob(const WorkerExited& event);
  bool CanDoWithout(const std::string& slot) const;
  void CountCrash(const WorkerExited& event);
  bool KnownSlot(const std::string& slot) const;
  bool Needless(const std::string& slot) const;
  void Dismiss(const std::string& slot, uint64_t incarnation);
  bool WasDismissed(const std::string& slot, uint64_t incarnation) const;
  std::string WhyLeaving(const std::string& slot) const;

  // coordinator_generations.cc: the one place where generations are made.
  void Propose(std::vector<std::string> members, bool urgent, const std::string& reason);
  void Promote(uint64_t generation);
  void DropProposal(const std::string& why);
  void MarkActiveDead(const std::string& cause, TimePoint first_sign);
  void OpenChange(const Generation& generation, bool urgent, const std::string& reason);
  void CloseChange();

  // coordinator_evictions.cc
  void EvictSilent();
  Duration StepDeadline() const;
  void CutOff(const std::vector<int>& ranks, const std::vector<int>& side);  // ascending
  void Bar(const std::string& id);
  static void Unbar(Worker& worker);
  bool IsBarred(const Worker& worker) const { return now_ < worker.barred_until; }

  // coordinator_status.cc
  Phase CurrentPhase() const;
  std::string_view StateOf(const std::string& slot, const Worker& worker) const;

  // decide.cc: looks at everything and does what follows.
  void Decide();
  void CheckFinished();
  void DecideStart();
  void DecideRecovery();
  void DecidePlanned();
  void UpdateSlots();
  void Finish(Phase phase, int exit_code, const std::string& message);
  bool Usable(const Worker& worker) const;
  int Quorum() const;
  int Wanted() const;
  std::vector<std::string> TargetSlots() const;
  std::vector<std::string> Chosen() const;  // usable workers in target slots, by slot number
  std::string MissingSentence() const;

  void Lose(const std::string& id, const std::string& cause, TimePoint first_sign);
  void Evict(const std::string& id, const std::string& cause, TimePoint first_sign);
  // The ranks of a slot in both generations, or -1; whether its newest process is a member of the active one.
  int ActiveRank(const std::string& id) const;
  int ProposedRank(const std::string& id) const;
  bool InActive(const std::string& id) const;
  const Worker* WorkerOf(const Member& member) const;  // nullptr: its process has ended
  std::vector<std::string> MembersAt(const std::vector<int>& ranks) const;  // of the active one
  bool IsActive(const std::string& id, const Worker& worker) const;
  bool InProposed(const std::string& id) const { return ProposedRank(id) >= 0; }
  void SendTo(const std::string& id, Order order);
  void Emit(const std::string& kind, const std::string& message);
  void PersistState() { actions_.push_back(Persist{state_}); }

  const CoordinatorOptions options_;
  CoordinatorState state_;
  mutable RankIndex active_ranks_, proposed_ranks_;
  Workers workers_;
  SlotsOffered offered_;  // with slots_from_platform; after a restart what the state says at first
  std::vector<CoordinatorAction> actions_;
  TimePoint now_;                          // of the event being handled
  bool nothing_follows_ = false;           // from it, but what the next tick finds too
  Sides sides_;                            // of the members of the active generation
  Duration longest_step_{};                // that a member has computed on and ended,
  uint64_t steps_measured_ = 0;            // of so many
  std::optional<Change> change_;           // from the order until all members have resumed
  std::vector<std::string> last_members_;  // of the last generation that trained
  bool active_dead_ = false;               // the active generation was revoked or lost a member
  std::string cause_;                      // why it is dead
  TimePoint first_sign_{}, known_{};       // of that
  TimePoint proposed_at_{};
  TimePoint waiting_since_{};  // for a quorum
  TimePoint stop_requested_at_{};
  TimePoint last_join_{};
  TimePoint no_proposal_before_{};  // after a proposal that failed
  bool record_away_ = false;
  double loss_ = std::numeric_limits<double>::quiet_NaN();  // at the highest step
  std::map<std::string, RunResult> results_;                // of members of the active generation
  std::string message_;
  bool say_missing_ = false;  // after the message: too long to be put together at each event
  bool finished_ = false;
  Phase final_phase_ = Phase::kFailed;
  std::string crash_loop_;  // the last one, in a sentence
  std::string failed_worker_, failed_output_;
};

}  // namespace muster
