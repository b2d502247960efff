#include "runtime/train/session.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/low_priority.h"

namespace muster {

namespace {

constexpr auto kFinishTimeout = std::chrono::minutes(2);
constexpr auto kFlushTimeout = std::chrono::seconds(5);
constexpr int kCheckpointsKept = 3;

// Errors of restoring: damaged, of another run, or not there.
bool IsCheckpointError(const Error& error) {
  return error.code == Code::kDataLoss || error.code == Code::kFailedPrecondition ||
         error.code == Code::kNotFound;
}

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

}  // namespace

Result<std::unique_ptr<Session>> Session::Create(const SessionSpec& spec) {
  MUSTER_ASSIGN(Surroundings surroundings, MakeSurroundings(spec));
  MUSTER_ASSIGN(std::unique_ptr<ElasticSession> session,
                ElasticSession::Create(spec, std::move(surroundings)));
  return std::unique_ptr<Session>(std::move(session));
}

ElasticSession::ElasticSession(Surroundings surroundings)
    : surroundings_(std::move(surroundings)) {}

// The writer tells what it has done through the membership, and so ends first.
ElasticSession::~ElasticSession() {
  checkpoints_.reset();
  membership_.reset();
}

Result<std::unique_ptr<ElasticSession>> ElasticSession::Create(const SessionSpec& spec,
                                                               Surroundings surroundings) {
  std::unique_ptr<ElasticSession> session(new ElasticSession(std::move(surroundings)));
  const WorkerEnvironment& environment = session->surroundings_.environment;
  // Those who train on this machine need not wait for the memory of one who joins.
  Result<std::unique_ptr<StepEngine>> engine;
  RunAtLowPriority([&] {
    const Surroundings& around = session->surroundings_;
    engine = StepEngine::Create(spec, environment.reduce, *around.backend,
                                {around.gpu.device.get(), around.gpu.numerics});
  });
  MUSTER_ASSIGN(session->engine_, std::move(engine));
  if (!environment.checkpoint.empty()) {
    session->checkpoints_ = std::make_unique<CheckpointWriter>(
        environment.checkpoint, session->Facts(), kCheckpointsKept,
        [self = session.get()](uint64_t step, const Status& status) {
          self->Notice(status ? "checkpoint" : "checkpoint-failed",
                       status ? fmt::format("checkpoint of step {} written", step)
                              : status.error().ToString());
        });
  }
  if (!environment.alone()) {
    session->ledger_ = std::make_unique<SampleLedger>(
        environment.job_dir / "ledger" /
            fmt::format("{}.{}.jsonl", environment.worker, environment.incarnation),
        spec.dataset_size, spec.options.micro_batches, spec.options.batch_size);
  }
  session->catch_up_.emplace(
      *session->engine_, *session->surroundings_.backend, environment.join,
      CatchUp::Callbacks{[self = session.get()] {
                           self->ReleaseState();
                           self->SetHolding(false);
                         },
                         [self = session.get()] { self->SetHolding(true); },
                         [self = session.get()](const std::string& kind, const std::string& text) {
                           self->Notice(kind, text);
                         }});
  session->StartMembership();
  if (Status entered = session->EnterNext(); !entered) return session->GiveUp(entered.error());
  return session;
}

void ElasticSession::StartMembership() {
  const WorkerEnvironment& environment = surroundings_.environment;
  MembershipOptions options;
  options.worker = environment.worker;
  options.incarnation = environment.incarnation;
  options.operation_timeout = environment.step_timeout * 3 / 2;
  options.heartbeat_timeout = TimeForTwoWitnesses(environment.heartbeat_timeout);
  membership_ = std::make_unique<Membership>(
      options, *surroundings_.backend,
      MembershipCallbacks{[this](Hello& hello) { FillHello(hello); },
                          [this](Report& report) { FillReport(report); },
                          [this](Communicator& communicator, uint64_t trains_in,
                                 const CatchUp::Ready& ready, std::stop_token stop) {
                            return catch_up_->Run(communicator, trains_in, ready, std::move(stop));
                          }});
  membership_->Start(surroundings_.open_line);
}

Result<ConstTensors> ElasticSession::parameters() {
  ReleaseState();
  if (Status fetched = engine_->FetchState(); !fetched) return GiveUp(fetched.error());
  return engine_->parameters();
}

bool ElasticSession::done() const {
  return holding_.done || step() >= engine_->spec().options.steps;
}

// --- Steps ----------------------------------------------------------------------------------------------------------------

Result<StepSummary> ElasticSession::Step(const ComputeMicroBatch& compute) {
  const uint64_t wanted = step();
  while (step() == wanted && !done()) {
    if (!current_) {
      if (Status entered = EnterNext(); !entered) {
        return tl::unexpected(GpuFailure(entered.error()).value_or(entered.error()));
      }
    }
    if (step() != wanted || done()) break;
    const auto committed = Attempt(compute);
    if (committed) continue;
    if (!EndsGeneration(committed.error())) return GiveUp(committed.error());
    ++redone_;
    if (current_) Break(committed.error());
  }
  StepSummary summary = engine_->summary();
  if (summary.step + 1 != step()) {  // the step came with a transferred state
    summary = {step() == 0 ? 0 : step() - 1, engine_->state().header().loss, 0, false};
  }
  return summary;
}

// One try of one step; true if it was committed, false if it must be computed again: with larger exponents, or from the state that
// the others brought.
Result<bool> ElasticSession::Attempt(const ComputeMicroBatch& compute) {
  const TimePoint start = MonotonicNow();
  Communicator& communicator = *current_->communicator;
  const MicroBatchRange share = Share();
  waiting_ = false;
  MUSTER_TRY(engine_->Compute(share, compute, synced_ ? &communicator : nullptr));
  waiting_ = true;
  (void)Failpoint("step.computed");
  if (ledger_ && share.size() > 0) ledger_->Computed(step(), current_->generation.number, share);
  if (!synced_) {
    const uint64_t computed = engine_->position();
    MUSTER_TRY(Sync());
    if (engine_->position() != computed) return false;
  }
  const Membership::Prepared prepared = membership_->prepared();
  MUSTER_TRY(engine_->ReduceAndVote(communicator, prepared.number, membership_->stop_requested()));
  const bool stop = engine_->outcome().stop();
  (void)Failpoint("step.voted");
  ReleaseState();
  MUSTER_ASSIGN(const StepEngine::Applied applied, engine_->ApplyOutcome());
  (void)Failpoint("step.applied");
  if (stop && applied != StepEngine::Applied::kRaised) holding_.done = true;
  first_step_ = false;
  const double seconds = Seconds(MonotonicNow() - start);
  MUSTER_TRY(
      catch_up_->AfterOutcome(seconds, engine_->outcome().SwitchTo(current_->generation.number)));
  MUSTER_TRY(AfterOutcome(applied, seconds));
  MUSTER_TRY(SwitchIfDecided(prepared));
  return applied != StepEngine::Applied::kRaised;
}

Status ElasticSession::AfterOutcome(StepEngine::Applied applied, double seconds) {
  if (applied == StepEngine::Applied::kRaised) {
    log::debug("step={} misses={} exponents raised", step(), engine_->state().header().misses);
    return {};
  }
  {
    std::lock_guard lock(figures_mutex_);
    double& mean = figures_.step_seconds;
    mean = mean == 0 ? seconds : mean + 0.1 * (seconds - mean);
  }
  Publish();
  if (resumed_pending_) ReportResumed(seconds * 1e3);
  redone_ = 0;
  return MaybeCheckpoint();
}

void ElasticSession::ReportResumed(double step_ms) {
  resumed_pending_ = false;
  Report report;
  report.kind = Report::Kind::kResumed;
  report.generation = current_->generation.number;
  report.connect_ms = current_->connect_ms;
  report.state_ms = state_ms_;
  report.resume_ms = step_ms;
  report.steps_redone = redone_;
  membership_->Send(report);
}

// --- Checkpoints ------------------------------------------------------------------------------------------------------------

CheckpointFacts ElasticSession::Facts() const {
  const SessionSpec& spec = engine_->spec();
  return {spec.options.seed,
          spec.options.micro_batches,
          spec.options.batch_size,
          spec.dataset_size,
          engine_->DescribeReduction(),
          fmt::format("{} clip_norm={}", spec.optimizer->Describe(), spec.options.clip_norm)};
}

// Fills the state when nobody in the job holds one: from the newest checkpoint, or from the model's start.
Status ElasticSession::Restore() {
  const WorkerEnvironment& environment = surroundings_.environment;
  if (!environment.checkpoint.empty()) {
    auto loaded = LoadNewestCheckpoint(environment.checkpoint, Facts(), engine_->state());
    if (loaded) {
      for (const std::string& refused : loaded->refused) Notice("checkpoint-refused", refused);
      if (step() > engine_->spec().options.steps) {
        return WithHint(Err(Code::kFailedPrecondition, "{} is of step {}, but the run has {} steps",
                            loaded->entry.folder.string(), step(), engine_->spec().options.steps),
                        "raise --steps, or checkpoint into another folder");
      }
      Notice("restore",
             fmt::format("restored step {} from {}", step(), loaded->entry.folder.string()));
      engine_->state().set_all_page_versions(engine_->position());
      engine_->ForgetStep();
      return engine_->PushState();
    }
    if (loaded.error().code != Code::kNotFound || environment.resume) {
      return tl::unexpected(loaded.error());
    }
  }
  State& state = engine_->state();
  state.header() = {};
  for (size_t i = 0; i + 1 < state.tensors().size(); ++i) {
    std::ranges::fill(state.tensor_bytes(i), std::byte{0});
  }
  std::ranges::fill(state.tensor<int16_t>(state.tensors().size() - 1), kUnknownExponent);
  engine_->spec().initialize(engine_->mutable_parameters());
  state.set_all_page_versions(0);
  engine_->ForgetStep();
  return engine_->PushState();
}

// Rank 0's; the last one is Finish()'s.
Status ElasticSession::MaybeCheckpoint() {
  const uint64_t every = surroundings_.environment.checkpoint_every;
  if (!checkpoints_ || every == 0 || done() || current_->communicator->rank() != 0) return {};
  if (step() % every != 0) {
    checkpoints_->Prepare(engine_->state());
    return {};
  }
  MUSTER_TRY(engine_->FetchState());
  if (!checkpoints_->Submit(engine_->state())) {
    log::info("step={} checkpoint skipped: the one before is still being written", step());
  }
  return {};
}

// Before the state changes.
void ElasticSession::ReleaseState() {
  if (checkpoints_) checkpoints_->EndCopy();
}

Status ElasticSession::FinalCheckpoint() {
  if (!checkpoints_ || !current_ || current_->communicator->rank() != 0) return {};
  const TimePoint deadline = MonotonicNow() + kFinishTimeout;
  (void)checkpoints_->Flush(deadline);
  MUSTER_TRY(engine_->FetchState());
  checkpoints_->Submit(engine_->state());
  return checkpoints_->Flush(deadline);
}

// --- The end ------------------------------------------------------------------------------------------------------------------

RunResult ElasticSession::MakeResult(const Metrics& metrics) {
  const StateHeader& header = engine_->state().header();
  return {header.step,
          header.loss,
          engine_->weights_hash(),
          header.samples_consumed,
          header.misses,
          metrics,
          holding_.done && header.step < engine_->spec().options.steps};
}

Status ElasticSession::Finish(const Metrics& metrics) {
  waiting_ = true;
  (void)Failpoint("finish.started");
  MUSTER_TRY(parameters());
  if (Status written = FinalCheckpoint(); !written) log::error("{}", written.error().ToString());
  result_ = MakeResult(metrics);
  if (ledger_) ledger_->Finished(step());
  if (surroundings_.environment.alone()) return {};
  while (true) {
    Report report;
    report.kind = Report::Kind::kFinished;
    report.generation = membership_->entered_generation();
    report.result = result_;
    membership_->Send(report);
    // Until the coordinator says that all have finished, a member that is one step behind may need this one.
    Status entered = EnterNext();
    if (!entered && entered.error().code == Code::kCancelled) return {};
    MUSTER_TRY(std::move(entered));
  }
}

// If `error` is there because the GPU has failed, which the coordinator is told: that.
std::optional<Error> ElasticSession::GpuFailure(const Error& error) {
  cuda::Device* gpu = surroundings_.gpu.device.get();
  if (gpu == nullptr || error.code != Code::kInternal) return {};
  const Status answer = AskGpu(*gpu);
  if (answer) return {};
  Notice("gpu-failed", answer.error().ToString());
  (void)membership_->Flush(MonotonicNow() + kFlushTimeout);
  return answer.error();
}

// A GPU that has failed ends this worker, and nothing else: its agent starts another, which tries it first. Any other error ends the job.
tl::unexpected<Error> ElasticSession::GiveUp(const Error& error) {
  if (const auto failure = GpuFailure(error)) return tl::unexpected(*failure);
  Fail(error);
  return tl::unexpected(error);
}

void ElasticSession::Fail(const Error& error) {
  if (error.code == Code::kCancelled || !membership_) return;
  Report report;
  report.kind = Report::Kind::kFailed;
  report.message = error.ToString();
  report.usage_error = error.code == Code::kInvalidArgument;
  report.checkpoint_error = !holding_.has_state && IsCheckpointError(error);
  membership_->Send(report);
  if (Status flushed = membership_->Flush(MonotonicNow() + kFlushTimeout); !flushed) {
    log::error("{}", flushed.error().message);
  }
}

// --- What other threads see -----------------------------------------------------------------------------------------------------

void ElasticSession::SetHolding(bool has_state) {
  holding_.has_state = has_state;
  Publish();
}

void ElasticSession::Publish() {
  const StateHeader& header = engine_->state().header();
  std::lock_guard lock(figures_mutex_);
  figures_.step = holding_.has_state ? header.step : 0;
  figures_.has_state = holding_.has_state;
  figures_.loss = header.loss;
  figures_.samples_consumed = header.samples_consumed;
}

void ElasticSession::FillHello(Hello& hello) {
  const TrainOptions& options = engine_->spec().options;
  hello.host = HostName();
  const cuda::Device* gpu = surroundings_.gpu.device.get();
  hello.device = gpu != nullptr ? gpu->facts().ToString() : "cpu";
  hello.pid = ::getpid();
  hello.micro_batches = options.micro_batches;
  hello.batch_size = options.batch_size;
  hello.total_steps = options.steps;
  std::lock_guard lock(figures_mutex_);
  hello.step = figures_.step;
  hello.has_state = figures_.has_state;
}

void ElasticSession::FillReport(Report& report) {
  report.waiting = waiting_;
  std::lock_guard lock(figures_mutex_);
  report.step = figures_.step;
  report.has_state = figures_.has_state;
  report.loss = figures_.loss;
  report.step_seconds = figures_.step_seconds;
  report.samples_consumed = figures_.samples_consumed;
}

void ElasticSession::Notice(const std::string& kind, const std::string& message) {
  log::info("{} {}", kind, message);
  if (!membership_) return;
  Report report;
  report.kind = Report::Kind::kNotice;
  report.generation = membership_->entered_generation();
  report.notice_kind = kind;
  report.message = message;
  membership_->Send(report);
}

}  // namespace muster
