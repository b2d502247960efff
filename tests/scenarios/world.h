// World: a whole job in memory under a virtual clock: one Coordinator, an AgentCore per slot, and simulated workers, wired by queues
// that keep the order of real ones (to one worker, from one worker) and nothing more.
//
// What can happen next is a list of moves; whoever drives the world picks one. A script takes them in a fixed order until none
// is left, a simulation takes any.
//
// Threading: none.
#pragma once

#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "launcher/agent/agent_core.h"
#include "launcher/rendezvous/coordinator.h"
#include "tests/scenarios/coverage.h"
#include "tests/scenarios/text.h"
#include "tests/scenarios/worker.h"

namespace muster::scenario {

struct WorldOptions {
  CoordinatorOptions coordinator;
  Program program;
};

struct Move {
  // In the order in which a script takes them. The last two need a decision of the driver's.
  enum class Kind {
    kAgentEvent,  // the coordinator hears of a process or an agent
    kStreamLost,  // the coordinator notices that a worker's stream is cut
    kReport,      // ... takes a worker's oldest report
    kHello,       // a worker registers
    kOrder,       // a worker gets its oldest order
    kBuild,       // a worker's connecting ends
    kProceed,     // a worker's trainer goes on
    kAgentOrder,  // an agent gets its oldest order
    kCompute,     // a worker has computed its share
    kSpawn,       // an agent is started in a slot that should exist
  };
  Kind kind = Kind::kProceed;
  std::string who;
  auto operator<=>(const Move&) const = default;
};
constexpr int kKindsOfMoves = static_cast<int>(Move::Kind::kSpawn) + 1;

class World : public Surroundings {
 public:
  explicit World(WorldOptions options);
  ~World() override;

  // --- The coordinator ---
  void StartCoordinator();  // from what the last one persisted
  void KillCoordinator();
  bool coordinator_runs() const { return coordinator_ != nullptr; }
  // It dies after that many more actions, in the middle of what it was carrying out.
  void KillCoordinatorAfter(int actions) { actions_left_ = actions; }
  void Tell(const CoordinatorEvent& event);  // nothing happens while it is away
  std::optional<std::string> ResizeObjection(int min_workers, int max_workers) const;
  JobStatus Status() const { return coordinator_->Status(); }

  // --- What happens to processes ---
  void Spawn(const std::string& slot);  // an agent, which starts its worker
  void Kill(const std::string& slot, int exit_code, int signal);
  void KillAgent(const std::string& slot);
  void Bar(const std::string& slot) { incarnations_.try_emplace(slot, 0); }  // nobody comes there
  void Freeze(const std::string& slot, bool frozen);
  void DropStream(const std::string& slot);

  // --- What can happen next ---
  std::vector<Move> Moves() const;  // in script order, without what is held
  void Make(const Move& move);
  // The same by number, which costs no lookup: of all slots that there were and that there should be, as they came.
  size_t places() const { return places_.size(); }
  bool MakeIfPossible(Move::Kind kind, size_t place);
  void Hold(const std::string& who, const std::string& what) { held_[who].insert(what); }
  void Release(const std::string& who, const std::string& what) { held_[who].erase(what); }
  void ReleaseAll() { held_.clear(); }
  // The network between workers splits: what needs both sides waits. Nobody in `side`: it is whole again.
  void Split(std::set<std::string> side) {
    side_ = std::move(side);
    divided_.clear();
  }
  // All moves up to kAgentOrder, until none is left; Deliver() with a heartbeat of everybody.
  void Settle();
  void Deliver();
  // As Settle(), with computing and starting agents too, in an order that costs a world of thousands less.
  void Rush();
  // The clock moves; agents, heartbeats and the coordinator notice.
  void Pass(Duration time);

  // --- What there is ---
  Worker* worker(const std::string& slot);  // nullptr: no process
  bool frozen(const std::string& slot) const;
  bool agent_runs(const std::string& slot) const;
  bool WasSpawned(const std::string& slot) const;
  std::vector<std::string> slots() const;  // that have an agent
  const std::optional<FinishJob>& end() const { return end_; }
  const CoordinatorState& durable() const { return durable_; }
  const std::vector<EmitEvent>& events() const { return events_; }

  // --- Trace ---
  std::string TakeTrace();
  void set_tracing(bool tracing) { tracing_ = tracing; }
  void set_coverage(Coverage* coverage) { coverage_ = coverage; }

  // --- Surroundings ---
  TimePoint now() const override { return now_; }
  bool tracing() const override { return tracing_; }
  void Say(const std::string& who, const std::string& what) override { Trace("", who, what); }
  Oracle& oracle() override { return oracle_; }
  std::shared_ptr<Meeting> MeetingOf(const Generation& generation) override;
  void Send(const std::string& worker, Report report) override;
  void SayHello(const std::string& worker) override;
  void Exit(const std::string& worker, int exit_code) override;
  bool SeesDeathFirst(const std::string&) override { return true; }
  bool Held(const std::string& who, const std::string& what) const override;
  bool Divided(const Generation& generation) const override;
  bool Silent(const std::string& from, const std::string& to) const override;
  Coverage* coverage() override { return coverage_; }
  Weights Checkpoint() const override { return checkpoint_; }
  void WriteCheckpoint(const Weights& weights) override { checkpoint_ = weights; }

 private:
  // A worker process and its line to the coordinator.
  struct Process {
    std::unique_ptr<Worker> worker;
    bool frozen = false;
    bool connected = false;
    std::deque<Order> orders;        // in the stream
    std::deque<Report> reports;      // not taken yet
    std::optional<Report> finished;  // taken; said again to every new coordinator
    std::optional<int> exiting;      // wants to end with this code
  };
  struct Slot {
    bool wanted = false;
    std::optional<AgentCore> agent;
    std::optional<Process> process;
    std::deque<CoordinatorEvent> events;  // of agent and process, not taken yet
    std::deque<SendAgent> orders;
  };
  using Slots = std::map<std::string, Slot, BySlotNumber>;
  using Place = Slots::value_type;

  Slot& SlotOf(const std::string& who);
  bool CanMake(Move::Kind kind, const Place& place) const;
  bool Possible(Move::Kind kind, const std::string& who, const Slot& slot) const;
  void Make(Move::Kind kind, Place& place);
  void Register(Slot& slot);
  void Progress(Slot& slot);
  void Obey(Slot& slot, const std::string& who);
  void Do(const std::string& who, std::vector<AgentAction> actions);
  void StartProcess(const std::string& who);
  void EndProcess(const std::string& who, int exit_code, int signal);
  void CarryOut(const std::vector<CoordinatorAction>& actions);
  void Perform(const Persist& action);
  void Perform(const SendOrder& action);
  void Perform(const SendAgent& action);
  void Perform(const SetSlots& action);
  void Perform(const EmitEvent& action);
  void Perform(const FinishJob& action);
  void Trace(const std::string& indent, const std::string& who, const std::string& what);
  void FlushLine();

  const WorldOptions options_;
  TimePoint now_;
  Oracle oracle_;
  std::unique_ptr<Coordinator> coordinator_;
  int actions_left_ = -1;
  CoordinatorState durable_;
  bool persisted_ = false;
  std::map<uint64_t, std::shared_ptr<Meeting>> meetings_;
  Slots slots_;
  std::vector<Place*> places_;  // of slots_, as they came
  std::unordered_map<std::string, uint64_t> incarnations_;
  std::vector<std::string> wanted_slots_;
  std::deque<WorkerStreamLost> lost_streams_;
  std::map<std::string, std::set<std::string>> held_;
  std::set<std::string> side_;
  mutable std::map<uint64_t, bool> divided_;  // by generation
  TimePoint next_heartbeat_;
  Weights checkpoint_ = Program::Initial();
  std::vector<EmitEvent> events_;
  std::optional<FinishJob> end_;

  Coverage* coverage_ = nullptr;
  bool tracing_ = true;
  std::string trace_;
  TimePoint traced_at_;
  std::string line_indent_, line_who_, line_what_;  // others may still join it
};

}  // namespace muster::scenario
