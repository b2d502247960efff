// ElasticSession: the session of one worker, with its surroundings injected, so that tests can run whole jobs in one process. Programs
// use Session::Create (train.h).
//
// Threading: as Session. Ownership: as Session; it owns backend, engine and membership.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "runtime/state/checkpoint.h"
#include "runtime/train/catch_up.h"
#include "runtime/train/ledger.h"
#include "runtime/train/state_sync.h"
#include "runtime/train/step_engine.h"
#include "runtime/train/surroundings.h"
#include "runtime/train/train.h"

namespace muster {

class ElasticSession : public Session {
 public:
  // Errors: as Session::Create.
  static Result<std::unique_ptr<ElasticSession>> Create(const SessionSpec& spec,
                                                        Surroundings surroundings);
  ~ElasticSession() override;

  bool done() const override;
  uint64_t step() const override { return engine_->state().step(); }
  Result<ConstTensors> parameters() override;
  Result<StepSummary> Step(const ComputeMicroBatch& compute) override;
  Status Finish(const Metrics& metrics) override;

  // What was found at the end; valid after Finish().
  const RunResult& result() const { return result_; }
  // Tells the coordinator that the job cannot go on, and why.
  void Fail(const Error& error);

 private:
  explicit ElasticSession(Surroundings surroundings);
  std::optional<Error> GpuFailure(const Error& error);
  tl::unexpected<Error> GiveUp(const Error& error);
  void StartMembership();
  Status EnterNext();
  Status Take(BuiltGeneration built);
  Status Sync();
  MicroBatchRange Share() const;
  Result<bool> Attempt(const ComputeMicroBatch& compute);
  Status AfterOutcome(StepEngine::Applied applied, double seconds);
  Status SwitchIfDecided(const Membership::Prepared& voted);
  void Break(const Error& error);
  Status Restore();
  void ReportResumed(double step_ms);
  Status MaybeCheckpoint();
  void ReleaseState();
  Status FinalCheckpoint();
  void Notice(const std::string& kind, const std::string& message);
  RunResult MakeResult(const Metrics& metrics);
  void SetHolding(bool has_state);
  void Publish();
  void FillHello(Hello& hello);
  void FillReport(Report& report);
  CheckpointFacts Facts() const;

  Surroundings surroundings_;
  std::unique_ptr<StepEngine> engine_;
  std::unique_ptr<CheckpointWriter> checkpoints_;
  std::unique_ptr<SampleLedger> ledger_;
  Holding holding_;
  std::optional<CatchUp> catch_up_;
  std::optional<BuiltGeneration> current_;
  std::optional<BuiltGeneration> before_;  // alive until all are in the current one
  bool synced_ = false;                    // they are
  bool first_step_ = false;                // no outcome has been applied in it yet
  bool resumed_pending_ = false;           // the first step in this generation is still to come
  double state_ms_ = 0;
  int redone_ = 0;  // computations thrown away since the last commit
  RunResult result_;

  // What the other threads may see of the trainer's progress.
  struct Figures {
    uint64_t step = 0;
    bool has_state = false;
    double loss = 0;
    double step_seconds = 0;
    uint64_t samples_consumed = 0;
  };
  std::mutex figures_mutex_;
  Figures figures_;
  std::atomic<bool> waiting_{true};
  TimePoint last_commit_{};

  std::unique_ptr<Membership> membership_;  // last: its threads use what is above
};

}  // namespace muster
