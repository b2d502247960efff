// Worker: one simulated worker process. A real MemberCore, with real votes and recovery plans, inside models of the two shells that
// drive it in production: the membership (runtime/train/membership.cc: orders, background building) and the session
// (runtime/train/session.cc, state_sync.cc: entering, steps, finishing). The names are those of the shells.
//
// It moves only when told to: every thread of the real process is a pair of Can...() and a method that takes one step.
//
// Threading: none.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/member.h"
#include "tests/scenarios/coverage.h"
#include "tests/scenarios/fabric.h"
#include "tests/scenarios/program.h"

namespace muster::scenario {

// What a worker finds around it.
class Surroundings {
 public:
  virtual ~Surroundings() = default;
  virtual TimePoint now() const = 0;
  virtual bool tracing() const = 0;
  virtual void Say(const std::string& who, const std::string& what) = 0;  // into the trace
  virtual Oracle& oracle() = 0;
  virtual std::shared_ptr<Meeting> MeetingOf(const Generation& generation) = 0;
  virtual void Send(const std::string& worker, Report report) = 0;
  virtual void SayHello(const std::string& worker) = 0;
  virtual void Exit(const std::string& worker, int exit_code) = 0;
  // An operation that is about to fail may also have completed here: which of both does the member see?
  virtual bool SeesDeathFirst(const std::string& worker) = 0;
  virtual bool Held(const std::string& worker, const std::string& what) const = 0;
  // The network does not connect all members of that generation at the moment.
  virtual bool Divided(const Generation& generation) const = 0;
  // Nothing that one sends arrives at the other, heartbeats neither: it hangs, or the network keeps them apart.
  virtual bool Silent(const std::string& from, const std::string& to) const = 0;
  virtual Coverage* coverage() = 0;  // nullptr: not of interest
  virtual Weights Checkpoint() const = 0;
  virtual void WriteCheckpoint(const Weights& weights) = 0;
};

class Worker {
 public:
  Worker(std::string id, uint64_t incarnation, const Program& program, Surroundings& around);

  const std::string& id() const { return id_; }
  uint64_t incarnation() const { return incarnation_; }

  // --- The line's thread ---
  Hello MakeHello() const;
  Report MakeProgress() const;
  void OnOrder(const Order& order);

  // --- The builder's thread ---
  bool CanBuild() const;
  void Build();

  // --- The trainer's thread ---
  bool CanProceed() const;  // without ending a computation
  void Proceed();
  bool computing() const { return stage_ == Stage::kCompute; }
  void EndCompute();
  void Fail(const std::string& message, bool usage_error, bool checkpoint_error);
  void Corrupt() { weights_.hash ^= 1; }

  const MemberCore& core() const { return core_; }
  const Weights& weights() const { return weights_; }
  bool has_state() const { return has_state_; }
  uint64_t entered() const { return entered_; }
  bool finishing() const { return finishing_; }
  std::string Describe() const;  // for `status` of a script

 private:
  enum class Stage { kAwait, kEntries, kRedo, kPages, kCompute, kReduce, kVote, kEnded };
  struct Built {
    std::shared_ptr<Endpoint> endpoint;
    Generation generation;
  };

  // As in Membership.
  // `trigger` for coverage, `what` for the trace.
  void Carry(const char* trigger, const std::string& what,
             const std::vector<MemberAction>& actions);
  void Do(const BuildGeneration& action);
  void Do(const DiscardBuild& action);
  void Do(const RevokeActive& action);
  void Do(const EnterGeneration& action);
  void Do(const SayHello& action);
  void Do(const Leave& action);
  void Do(const SendReport& action);
  void StopBuilding();
  std::vector<std::string> Unreachable() const;
  void FillReport(Report& report) const;
  void Send(Report report);

  // As in ElasticSession and state_sync.
  bool done() const { return done_ || weights_.step >= program_.steps; }
  bool stopped() const { return done_ && weights_.step < program_.steps; }
  Entry MakeEntry() const;
  void Begin(Stage stage, const std::string& operation, Contribution mine);
  std::string StageName() const;
  void Await();
  void EnterBuilt(Built built);
  void OnEntries(const std::vector<Contribution>& all);
  void Restore();
  void Synchronise();
  void OnRedo(const std::vector<Contribution>& all);
  void OnPages(const std::vector<Contribution>& all);
  void Synced();
  void OnReduced(const std::vector<Contribution>& all);
  void OnVoted();
  bool ApplyOutcome();  // true: committed, false: raised
  void SwitchIfDecided();
  void GoOn();
  void SendFinished();
  void OnDead(std::vector<std::string> silent);
  std::vector<std::string> SilentPeers() const;
  void Publish();
  template <typename... Args>
  void Say(fmt::format_string<Args...> text, Args&&... args) {
    if (around_.tracing()) around_.Say(id_, fmt::format(text, std::forward<Args>(args)...));
  }

  const std::string id_;
  const uint64_t incarnation_;
  const Program& program_;
  Surroundings& around_;

  // Membership's.
  MemberCore core_;
  std::optional<Generation> to_build_;  // connecting
  int rank_to_build_ = -1;
  TimePoint build_started_{};
  std::optional<Built> built_;
  std::shared_ptr<Endpoint> active_;
  uint64_t entered_ = 0;
  uint64_t enter_ = 0;
  bool say_hello_ = false;

  // The session's.
  Stage stage_ = Stage::kAwait;
  bool waiting_ = true;
  bool has_state_ = false;
  bool done_ = false;
  bool finishing_ = false;
  bool fresh_ = false;  // comes straight from a generation, not by a hello
  Weights weights_;
  std::optional<Built> current_;
  std::optional<Built> before_;
  RecoveryPlan plan_;
  uint64_t sum_ = 0;
  std::optional<uint64_t> reduced_at_;
  std::optional<uint64_t> outcome_of_;
  Vote outcome_;
  uint64_t voted_for_ = 0;
  std::optional<Built> voted_;
  bool vote_stop_ = false;
  bool resumed_pending_ = false;
  int redone_ = 0;
  // What the other threads may see.
  uint64_t published_step_ = 0;
  bool published_state_ = false;
};

}  // namespace muster::scenario
