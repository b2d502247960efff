// The trainer's side of a simulated worker: entering generations, steps and the end.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "tests/scenarios/worker.h"

namespace muster::scenario {

namespace {

constexpr auto kOperationTimeout = std::chrono::seconds(90);
constexpr auto kHeartbeatTimeout = std::chrono::seconds(1);
using Action = RecoveryPlan::Action;

const char* ActionName(Action action) {
  switch (action) {
    case Action::kNone:
      return "has it";
    case Action::kInitialize:
      return "starts the state";
    case Action::kWait:
      return "waits for the state";
    case Action::kRedo:
      return "redoes the last vote";
    case Action::kTransfer:
      return "pulls the state";
  }
  return "?";
}

}  // namespace

std::string Worker::StageName() const {
  switch (stage_) {
    case Stage::kAwait:
      return finishing_ ? "has finished" : "awaits a generation";
    case Stage::kEntries:
      return "enters";
    case Stage::kRedo:
      return "redoes";
    case Stage::kPages:
      return "transfers";
    case Stage::kCompute:
      return "computes";
    case Stage::kReduce:
      return "reduces";
    case Stage::kVote:
      return "votes";
    case Stage::kEnded:
      return "has ended";
  }
  return "?";
}

bool Worker::CanProceed() const {
  if (stage_ == Stage::kEnded || stage_ == Stage::kCompute) return false;
  if (stage_ == Stage::kAwait) {
    return core_.released() || say_hello_ ||
           (enter_ != 0 && built_ && built_->generation.number == enter_);
  }
  Endpoint& endpoint = *current_->endpoint;
  if (endpoint.doomed() || around_.now() - endpoint.begun_at() >= kOperationTimeout) return true;
  if (!SilentPeers().empty()) return true;
  static const std::map<Stage, std::string> kNames = {{Stage::kEntries, "enter"},
                                                      {Stage::kRedo, "redo"},
                                                      {Stage::kPages, "pages"},
                                                      {Stage::kReduce, "reduce"},
                                                      {Stage::kVote, "vote"}};
  return endpoint.complete() && !around_.Held(id_, kNames.at(stage_)) &&
         !around_.Divided(current_->generation);
}

void Worker::Proceed() {
  if (stage_ == Stage::kAwait) return Await();
  Endpoint& endpoint = *current_->endpoint;
  std::vector<std::string> silent = SilentPeers();
  if (!silent.empty()) {
    endpoint.meeting().Break("no sign of life for 1.0 s", -1);
  } else if (!endpoint.complete() && !endpoint.doomed()) {
    endpoint.meeting().Break("no data for 90.0 s", -1);
  }
  if (!endpoint.complete() || (endpoint.doomed() && around_.SeesDeathFirst(id_)))
    return OnDead(std::move(silent));
  const std::shared_ptr<Endpoint> kept = current_->endpoint;  // it may be left meanwhile
  const std::vector<Contribution>& all = endpoint.gathered();
  switch (stage_) {
    case Stage::kEntries:
      return OnEntries(all);
    case Stage::kRedo:
      return OnRedo(all);
    case Stage::kPages:
      return OnPages(all);
    case Stage::kReduce:
      return OnReduced(all);
    case Stage::kVote:
      return OnVoted();
    default:
      return;
  }
}

// Those that are needed for the operation under way and have sent nothing for too long.
std::vector<std::string> Worker::SilentPeers() const {
  const Endpoint& endpoint = *current_->endpoint;
  if (around_.now() - endpoint.begun_at() < kHeartbeatTimeout) return {};
  if (endpoint.complete() && !around_.Divided(current_->generation)) return {};
  std::vector<std::string> silent;
  for (const Member& member : current_->generation.members) {
    if (member.worker != id_ && around_.Silent(member.worker, id_)) silent.push_back(member.worker);
  }
  return silent;
}

void Worker::Begin(Stage stage, const std::string& operation, Contribution mine) {
  stage_ = stage;
  const auto objection = current_->endpoint->Begin(operation, std::move(mine), around_.now());
  if (objection) around_.oracle().Violate(*objection);
}

void Worker::Await() {
  if (core_.released()) {
    stage_ = Stage::kEnded;
    around_.Exit(id_, 0);
  } else if (say_hello_) {
    say_hello_ = false;
    fresh_ = false;
    active_.reset();
    around_.SayHello(id_);
  } else {
    enter_ = 0;
    Built built = *std::exchange(built_, std::nullopt);
    EnterBuilt(std::move(built));
  }
}

// --- Entering: SyncState ----------------------------------------------------------------------------------------------

Entry Worker::MakeEntry() const {
  Entry entry;
  entry.has_state = has_state_ ? 1 : 0;
  entry.position = has_state_ ? weights_.position() : 0;
  entry.done = done_ ? 1 : 0;
  if (has_state_) {
    entry.reduced_at = reduced_at_.value_or(Entry::kNone);
    entry.outcome_of = outcome_of_.value_or(Entry::kNone);
  }
  return entry;
}

void Worker::EnterBuilt(Built built) {
  waiting_ = true;
  before_ = std::exchange(current_, std::move(built));
  const Generation& generation = current_->generation;
  if (!core_.OnEntering(generation.number)) {
    Say("must not enter generation {}", generation.number);
    current_.reset();
    before_.reset();
    stage_ = Stage::kAwait;
    return;
  }
  active_ = current_->endpoint;
  if (built_ && built_->generation.number <= generation.number) built_.reset();
  const Entry entry = MakeEntry();
  Say("enters generation {} {}", generation.number,
      has_state_ ? fmt::format("at position {}", entry.position) : "without state");
  around_.oracle().Entering(id_, generation, entry, fresh_);
  Begin(Stage::kEntries, "entries", {entry, 0, {}, {}});
}

void Worker::OnEntries(const std::vector<Contribution>& all) {
  std::vector<Entry> entries;
  for (const Contribution& each : all) entries.push_back(each.entry);
  plan_ = PlanRecovery(entries);
  if (around_.coverage() != nullptr) around_.coverage()->Recovery(plan_);
  const auto rank = static_cast<size_t>(current_->endpoint->rank());
  if (plan_.Any(Action::kInitialize)) {
    if (plan_.actions[rank] == Action::kInitialize) Restore();
    return Begin(Stage::kEntries, "entries again", {MakeEntry(), 0, {}, {}});
  }
  if (plan_.Any(Action::kRedo))
    return Begin(Stage::kRedo, "redo",
                 {{}, 0, {outcome_.lanes().begin(), outcome_.lanes().end()}, {}});
  Synchronise();
}

void Worker::Restore() {
  weights_ = around_.Checkpoint();
  has_state_ = true;
  reduced_at_.reset();
  outcome_of_.reset();
  around_.oracle().Restored();
  Say("starts the state at position {}", weights_.position());
}

void Worker::OnRedo(const std::vector<Contribution>& all) {
  const auto rank = static_cast<size_t>(current_->endpoint->rank());
  if (plan_.actions[rank] == Action::kRedo) {
    std::ranges::copy(all[static_cast<size_t>(plan_.outcome_from)].vote, outcome_.lanes().begin());
    outcome_of_ = weights_.position();
    ApplyOutcome();
  }
  Synchronise();
}

void Worker::Synchronise() {
  if (!plan_.Any(Action::kTransfer)) return Synced();
  const auto rank = static_cast<size_t>(current_->endpoint->rank());
  if (plan_.actions[rank] == Action::kTransfer) {
    has_state_ = false;
    reduced_at_.reset();
    outcome_of_.reset();
  }
  Begin(Stage::kPages, "pages", {{}, 0, {}, weights_});
}

void Worker::OnPages(const std::vector<Contribution>& all) {
  const auto rank = static_cast<size_t>(current_->endpoint->rank());
  if (plan_.actions[rank] == Action::kTransfer) {
    weights_ = all[static_cast<size_t>(plan_.donors.front())].weights;
    has_state_ = true;
    for (const int donor : plan_.donors) {
      if (all[static_cast<size_t>(donor)].weights == weights_) continue;
      around_.oracle().Violate(fmt::format("the donors of generation {} hold different states",
                                           current_->generation.number));
    }
  }
  Synced();
}

void Worker::Synced() {
  const uint64_t generation = current_->generation.number;
  const auto rank = static_cast<size_t>(current_->endpoint->rank());
  done_ = plan_.done;
  Publish();
  resumed_pending_ = true;
  core_.OnEntered(generation);
  entered_ = generation;
  fresh_ = true;
  before_.reset();
  Say("is in generation {} at position {}: {}; {}", generation, weights_.position(), plan_.reason,
      ActionName(plan_.actions[rank]));
  around_.oracle().Synced(id_, generation, weights_, done());
  GoOn();
}

// What follows when no collective is under way: the next step, or the end.
void Worker::GoOn() {
  if (done()) return SendFinished();
  stage_ = Stage::kCompute;
  waiting_ = false;
  reduced_at_.reset();
}

void Worker::SendFinished() {
  waiting_ = true;
  if (!finishing_) Say("has {} at step {}", stopped() ? "stopped" : "finished", weights_.step);
  finishing_ = true;
  stage_ = Stage::kAwait;
  Report report;
  report.kind = Report::Kind::kFinished;
  report.generation = entered_;
  report.result = RunResult{
      weights_.step, 0.5, fmt::format("{:016x}", weights_.hash), weights_.step, weights_.misses, {},
      stopped()};
  Send(std::move(report));
}

void Worker::OnDead(std::vector<std::string> silent) {
  if (stage_ == Stage::kReduce || stage_ == Stage::kVote) ++redone_;
  const Built broken = *current_;
  Meeting& meeting = broken.endpoint->meeting();
  Publish();
  const std::string lost = meeting.lost();
  if (active_ == broken.endpoint) active_.reset();
  Carry("lost",
        fmt::format("sees generation {} dead: {}", broken.generation.number, meeting.reason()),
        core_.OnBroken(broken.generation.number, meeting.reason(), lost, std::move(silent)));
  current_.reset();
  before_.reset();
  voted_.reset();
  stage_ = Stage::kAwait;
  waiting_ = true;
}

// --- Steps --------------------------------------------------------------------------------------------------------------

void Worker::EndCompute() {
  waiting_ = true;
  voted_for_ = core_.prepared();
  voted_.reset();
  if (voted_for_ != 0 && core_.ordered_has_me()) voted_ = built_;
  vote_stop_ = core_.stop_requested();
  const Meeting& meeting = current_->endpoint->meeting();
  const MicroBatchRange share =
      ShareOf(current_->endpoint->rank(), static_cast<int>(meeting.generation().members.size()),
              program_.micro_batches);
  Begin(Stage::kReduce, "reduce", {{}, Program::SumOf(weights_, share), {}, {}});
}

void Worker::OnReduced(const std::vector<Contribution>& all) {
  sum_ = 0;
  for (const Contribution& each : all) sum_ += each.sum;
  reduced_at_ = weights_.position();
  const MicroBatchRange share =
      ShareOf(current_->endpoint->rank(), static_cast<int>(all.size()), program_.micro_batches);
  Vote vote = program_.MakeVote(weights_, share);
  vote.SetPrepared(voted_for_);
  if (vote_stop_) vote.SetStop();
  Begin(Stage::kVote, "vote", {{}, 0, {vote.lanes().begin(), vote.lanes().end()}, {}});
}

void Worker::OnVoted() {
  std::ranges::copy(current_->endpoint->max_vote(), outcome_.lanes().begin());
  outcome_of_ = weights_.position();
  const bool committed = ApplyOutcome();
  if (outcome_.stop() && committed) done_ = true;
  if (committed) {
    Publish();
    if (resumed_pending_) {
      resumed_pending_ = false;
      Report report;
      report.kind = Report::Kind::kResumed;
      report.generation = current_->generation.number;
      report.steps_redone = redone_;
      Send(std::move(report));
    }
    redone_ = 0;
    if (program_.checkpoint_every != 0 && weights_.step % program_.checkpoint_every == 0 &&
        current_->endpoint->rank() == 0) {
      around_.WriteCheckpoint(weights_);
    }
  }
  SwitchIfDecided();
}

bool Worker::ApplyOutcome() {
  if (!outcome_.consistent() || outcome_.step() != weights_.step) {
    around_.oracle().Violate(
        fmt::format("{} applies at step {} the votes of step {}, consistent: {}", id_,
                    weights_.step, outcome_.step(), outcome_.consistent()));
  }
  reduced_at_.reset();
  weights_ = Program::Apply(weights_, sum_, outcome_);
  around_.oracle().Applied(id_, current_->generation.number, weights_);
  if (outcome_.miss()) {
    Say("raises exponents: position {}", weights_.position());
  } else {
    Say("commits step {}{}: position {}", weights_.step, outcome_.stop() ? " (stop)" : "",
        weights_.position());
  }
  return !outcome_.miss();
}

void Worker::SwitchIfDecided() {
  const std::optional<Built> voted = std::exchange(voted_, std::nullopt);
  const uint64_t next = outcome_.SwitchTo(current_->generation.number);
  if (next == 0) return GoOn();
  if (voted) {
    if (voted->generation.number != next) {
      around_.oracle().Violate(fmt::format("{} switches to generation {} but has built {}", id_,
                                           next, voted->generation.number));
    }
    return EnterBuilt(*voted);
  }
  active_.reset();
  current_.reset();
  stage_ = Stage::kAwait;
  Carry("left", fmt::format("leaves: all others switch to generation {}", next), core_.OnLeft());
  if (done()) SendFinished();
}

void Worker::Fail(const std::string& message, bool usage_error, bool checkpoint_error) {
  Report report;
  report.kind = Report::Kind::kFailed;
  report.message = message;
  report.usage_error = usage_error;
  report.checkpoint_error = checkpoint_error;
  Send(std::move(report));
}

void Worker::Publish() {
  published_step_ = has_state_ ? weights_.step : 0;
  published_state_ = has_state_;
}

}  // namespace muster::scenario
