// ElasticSession: how generations are entered, switched and left.
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/low_priority.h"
#include "runtime/train/session.h"

namespace muster {

Status ElasticSession::EnterNext() {
  waiting_ = true;
  while (true) {
    MUSTER_ASSIGN(BuiltGeneration built, membership_->AwaitGeneration());
    Status entered = Take(std::move(built));
    if (entered) entered = Sync();
    if (entered || !EndsGeneration(entered.error())) return entered;
  }
}

// Leaves what was current for `built`, where Sync() is next. What was before stays alive until then, because a slower member may
// still be reading from it.
Status ElasticSession::Take(BuiltGeneration built) {
  before_ = std::exchange(current_, std::move(built));
  synced_ = false;
  first_step_ = true;
  if (Status may_enter = membership_->Entering(*current_); !may_enter) {
    current_.reset();
    before_.reset();
    return may_enter;
  }
  (void)Failpoint("enter.started");
  return {};
}

// Waits for the others and catches up with them.
Status ElasticSession::Sync() {
  waiting_ = true;
  const TimePoint start = MonotonicNow();
  catch_up_->AwaitEnd(current_->generation.number);
  ReleaseState();
  auto synced =
      SyncState(*current_->communicator, *engine_, holding_, [this] { return Restore(); });
  Publish();
  before_.reset();
  if (!synced) {
    if (EndsGeneration(synced.error())) Break(synced.error());
    return tl::unexpected(synced.error());
  }
  synced_ = true;
  if (auto& nice = surroundings_.environment.nice) SetPriority(*std::exchange(nice, {}));
  state_ms_ = Milliseconds(MonotonicNow() - start);
  resumed_pending_ = true;
  membership_->Entered(current_->generation.number);
  (void)Failpoint("enter.ended");
  log::info(
      "generation={} rank={} of={} step={} connect_ms={:.1f} state_ms={:.1f} pages={} redone={}",
      current_->generation.number, current_->communicator->rank(), current_->communicator->size(),
      step(), current_->connect_ms, state_ms_, synced->pages_received, synced->redone);
  return {};
}

void ElasticSession::Break(const Error& error) {
  membership_->Broken(*current_, error);
  current_.reset();
  before_.reset();
}

Status ElasticSession::SwitchIfDecided(const Membership::Prepared& voted) {
  const uint64_t next = engine_->outcome().SwitchTo(current_->generation.number);
  if (next == 0) return {};
  (void)Failpoint("switch.decided");
  if (!voted.built) {
    membership_->Left();
    current_.reset();
    return {};
  }
  Status taken = Take(*voted.built);
  // With another step to come, that is computed before the others are waited for.
  if (taken && done()) taken = Sync();
  if (!taken && EndsGeneration(taken.error())) return {};
  return taken;
}

MicroBatchRange ElasticSession::Share() const {
  const Communicator& communicator = *current_->communicator;
  const int micro_batches = engine_->spec().options.micro_batches;
  if (!first_step_) return ShareOf(communicator.rank(), communicator.size(), micro_batches);
  return FirstShareOf(communicator.rank(), current_->veterans, communicator.size(), micro_batches);
}

}  // namespace muster
