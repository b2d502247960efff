#include "launcher/rendezvous/coordinator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/job/job.h"

namespace muster {

Coordinator::Coordinator(CoordinatorOptions options, std::optional<CoordinatorState> restored,
                         TimePoint now)
    : options_(std::move(options)), now_(now), waiting_since_(now), last_join_(now) {
  if (restored) {
    state_ = std::move(*restored);
    offered_.slots = state_.slots;
    state_.best_step = std::max(state_.best_step, options_.known_step);
    stop_requested_at_ = now;
    proposed_at_ = now;
    // Until they have had time to come back, the members of both generations count as alive.
    for (const auto& generation : {state_.active, state_.proposed}) {
      if (!generation) continue;
      for (const Member& member : generation->members) Await(member);
    }
    if (state_.active) {
      for (const Member& member : state_.active->members) last_members_.push_back(member.worker);
    }
    message_ = "the coordinator has come back and waits for its workers";
    return;
  }
  state_.min_workers = options_.min_workers;
  state_.max_workers = options_.max_workers;
  state_.slots = TargetSlots();
  message_ = "starting";
}

std::vector<CoordinatorAction> Coordinator::Start(TimePoint now) {
  now_ = now;
  if (state_.started) Emit("coordinator", "the coordinator has come back and takes over");
  PersistState();
  actions_.push_back(SetSlots{state_.slots});
  return std::exchange(actions_, {});
}

std::vector<CoordinatorAction> Coordinator::Handle(const CoordinatorEvent& event, TimePoint now) {
  now_ = now;
  if (!finished_) {
    nothing_follows_ = false;
    std::visit([this](const auto& e) { On(e); }, event);
    if (!nothing_follows_) Decide();
  } else if (const auto* hello = std::get_if<WorkerHello>(&event)) {
    SendTo(hello->hello.worker, {Order::Kind::kRelease, {}, false, "the job has ended"});
  } else if (const auto* agent = std::get_if<AgentAttached>(&event)) {
    actions_.push_back(SendAgent{agent->slot, SendAgent::Kind::kShutDown, "the job has ended"});
  }
  return std::exchange(actions_, {});
}

// --- Operators ----------------------------------------------------------------------------------------------------------

std::optional<std::string> Coordinator::ResizeObjection(int min_workers, int max_workers) const {
  if (min_workers < 1 || max_workers < min_workers) {
    return fmt::format(
        "workers {}:{} is not a range: the minimum is at least 1 and at most the maximum",
        min_workers, max_workers);
  }
  if (max_workers > kMaxWorkers) {
    return fmt::format("{} workers are more than the {} that a job may have", max_workers,
                       kMaxWorkers);
  }
  if (state_.micro_batches > 0 && max_workers > state_.micro_batches) {
    return fmt::format(
        "{} workers are more than the {} micro-batches of a step; use at most {} workers, or more "
        "--micro-batches",
        max_workers, state_.micro_batches, state_.micro_batches);
  }
  return std::nullopt;
}

void Coordinator::On(const ResizeRequested& event) {
  if (ResizeObjection(event.min_workers, event.max_workers)) return;
  Emit("resize", fmt::format("resize from {}:{} to {}:{} workers requested", state_.min_workers,
                             state_.max_workers, event.min_workers, event.max_workers));
  state_.min_workers = event.min_workers;
  state_.max_workers = event.max_workers;
  for (auto& [id, worker] : workers_) worker.slot_failed = false;
  PersistState();
}

void Coordinator::On(const StopRequested& event) {
  if (!state_.stop_requested) {
    state_.stop_requested = true;
    state_.stop_reason = event.reason;
    stop_requested_at_ = now_;
    PersistState();
    Emit("stop", event.reason);
    for (const auto& [id, worker] : workers_) {
      if (worker.registered) SendTo(id, {Order::Kind::kStop, {}, false, event.reason});
    }
  }
  if (event.now) {
    Finish(Phase::kStopped, 0, event.reason);
  } else if (!state_.active) {
    Finish(Phase::kStopped, 0, event.reason + "; no step was under way");
  }
}

void Coordinator::On(const RecordAway&) { record_away_ = true; }

// Nobody has heard anything of us meanwhile, and some could not be heard: all times begin again.
void Coordinator::On(const RecordBack&) {
  record_away_ = false;
  for (auto& [id, worker] : workers_) {
    worker.last_seen = worker.busy_since = worker.waiting_since = now_;
    if (worker.evicted) worker.evicted_at = now_;
  }
  proposed_at_ = waiting_since_ = now_;
  if (active_dead_) known_ = now_;
}

void Coordinator::On(const Tick&) {}

// --- Members -----------------------------------------------------------------------------------------------------------

int Coordinator::ActiveRank(const std::string& id) const {
  return state_.active ? active_ranks_.RankOf(*state_.active, id) : -1;
}

int Coordinator::ProposedRank(const std::string& id) const {
  return state_.proposed ? proposed_ranks_.RankOf(*state_.proposed, id) : -1;
}

bool Coordinator::InActive(const std::string& id) const {
  const auto found = workers_.find(id);
  return found != workers_.end() && IsActive(id, found->second);
}

const Coordinator::Worker* Coordinator::WorkerOf(const Member& member) const {
  const auto found = workers_.find(member.worker);
  const bool newest = found != workers_.end() && found->second.incarnation == member.incarnation;
  return newest ? &found->second : nullptr;
}

std::vector<std::string> Coordinator::MembersAt(const std::vector<int>& ranks) const {
  std::vector<std::string> members;
  for (const int rank : ranks) {
    members.push_back(state_.active->members[static_cast<size_t>(rank)].worker);
  }
  return members;
}

bool Coordinator::IsActive(const std::string& id, const Worker& worker) const {
  const int rank = ActiveRank(id);
  return rank >= 0 &&
         state_.active->members[static_cast<size_t>(rank)].incarnation == worker.incarnation;
}

// `first_sign` may have been seen by a peer before the agent told: the cause is then made precise.
void Coordinator::Lose(const std::string& id, const std::string& cause, TimePoint first_sign) {
  Worker& worker = workers_[id];
  const bool was_member = ActiveRank(id) >= 0;
  worker.registered = worker.awaited = worker.connected = worker.evicted = false;
  worker.generation = 0;
  worker.has_state = false;
  worker.lost_by.clear();
  results_.erase(id);
  if (InProposed(id)) DropProposal(cause);
  if (!was_member) return;
  const bool was_dead = active_dead_;
  MarkActiveDead(cause, first_sign);
  if (was_dead) {
    cause_ = cause;
    known_ = now_;
  }
}

void Coordinator::Evict(const std::string& id, const std::string& cause, TimePoint first_sign) {
  Worker& worker = workers_[id];
  const bool was_member = InActive(id);
  worker.evicted = true;
  worker.evicted_at = now_;
  worker.hung = worker.restart_sent = false;
  worker.generation = 0;
  results_.erase(id);
  Emit("evicted", cause);
  SendTo(id, {Order::Kind::kRejoin, {}, false, cause});
  if (InProposed(id)) DropProposal(cause);
  if (was_member) {
    if (active_dead_) cause_ = cause;
    MarkActiveDead(cause, first_sign);
    known_ = now_;
  }
}

void Coordinator::SendTo(const std::string& id, Order order) {
  actions_.push_back(SendOrder{id, workers_[id].incarnation, std::move(order)});
}

void Coordinator::Emit(const std::string& kind, const std::string& message) {
  actions_.push_back(
      EmitEvent{kind, state_.active ? state_.active->number : state_.last_generation, message, {}});
}

// --- The end ----------------------------------------------------------------------------------------------------------

void Coordinator::Finish(Phase phase, int exit_code, const std::string& message) {
  if (finished_) return;
  finished_ = true;
  final_phase_ = phase;
  message_ = message;
  say_missing_ = false;
  if (change_ && !change_->resumed.empty()) CloseChange();
  Emit(std::string(PhaseName(phase)), message);
  FinishJob finish;
  finish.phase = phase;
  finish.exit_code = exit_code;
  finish.message = message;
  if (!results_.empty()) finish.result = results_.begin()->second;
  if (phase == Phase::kFailed) {
    finish.failed_worker = failed_worker_;
    finish.last_output = failed_output_;
  }
  // Before anybody leaves: a coordinator that is started after this one's death must not take the leaving for a failure.
  actions_.push_back(std::move(finish));
  const bool at_once = phase != Phase::kSucceeded && results_.empty();
  for (const auto& [id, worker] : workers_) {
    if (worker.registered) SendTo(id, {Order::Kind::kRelease, {}, false, message});
  }
  for (const std::string& slot : state_.slots) {
    actions_.push_back(SendAgent{
        slot, at_once ? SendAgent::Kind::kShutDownNow : SendAgent::Kind::kShutDown, message});
  }
  actions_.push_back(SetSlots{{}});
}

}  // namespace muster
