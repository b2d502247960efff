#include "launcher/rendezvous/coordinator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster {

namespace {

// "w-3" for slot 3.
std::string SlotName(int number) { return fmt::format("w-{}", number); }

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, std::optional<CoordinatorState> restored,
                         TimePoint now)
    : options_(std::move(options)), now_(now), waiting_since_(now), last_join_(now) {
  if (restored) {
    state_ = std::move(*restored);
    state_.best_step = std::max(state_.best_step, options_.known_step);
    stop_requested_at_ = now;
    restored_ = true;
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
  for (int i = 0; i < options_.max_workers; ++i) state_.slots.push_back(SlotName(i));
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
    std::visit([this](const auto& e) { On(e); }, event);
    Decide();
  } else if (const auto* hello = std::get_if<WorkerHello>(&event)) {
    SendTo(hello->hello.worker, {Order::Kind::kRelease, {}, false, "the job has ended"});
  } else if (const auto* agent = std::get_if<AgentAttached>(&event)) {
    actions_.push_back(SendAgent{agent->slot, SendAgent::Kind::kShutDown, "the job has ended"});
  }
  return std::exchange(actions_, {});
}

// --- Workers ------------------------------------------------------------------------------------------------------------

void Coordinator::On(const WorkerHello& event) {
  const Hello& hello = event.hello;
  if (!KnownSlot(hello.worker)) Dismiss(hello.worker, hello.incarnation);
  if (WasDismissed(hello.worker, hello.incarnation)) {
    actions_.push_back(
        SendOrder{hello.worker,
                  hello.incarnation,
                  {Order::Kind::kRelease, {}, false, "this slot is not needed any more"}});
    return;
  }
  Worker& worker = workers_[hello.worker];
  if (hello.incarnation < worker.incarnation) return;
  if (hello.incarnation > worker.incarnation && (worker.registered || worker.awaited)) {
    Lose(hello.worker, fmt::format("{} was started again", hello.worker), worker.last_seen);
  }
  worker.hello = hello;
  worker.incarnation = hello.incarnation;
  worker.pid = hello.pid;
  worker.running = true;
  worker.registered = true;
  worker.awaited = false;
  worker.told_to_rejoin = false;
  worker.connected = true;
  worker.last_seen = now_;
  worker.busy_since = now_;
  worker.waiting = true;
  worker.lost_by.clear();
  worker.generation = hello.generation;
  worker.revoked = std::max(worker.revoked, hello.revoked);
  worker.step = hello.step;
  worker.has_state = hello.has_state;
  if (!AcceptProgram(hello)) return;
  if (hello.generation == 0 && worker.evicted) {
    worker.evicted = false;
    worker.restart_sent = false;
    Emit("worker-returned", fmt::format("{} answers again and rejoins", hello.worker));
  }
  Promote(hello.generation);
  if (!InActive(hello.worker)) last_join_ = now_;
  RepeatOrders(worker);
}

bool Coordinator::AcceptProgram(const Hello& hello) {
  if (state_.micro_batches == 0) {
    state_.micro_batches = hello.micro_batches;
    state_.batch_size = hello.batch_size;
    state_.total_steps = hello.total_steps;
  }
  if (hello.micro_batches != state_.micro_batches || hello.batch_size != state_.batch_size ||
      hello.total_steps != state_.total_steps) {
    failed_worker_ = hello.worker;
    Finish(
        Phase::kFailed, 2,
        fmt::format("{} runs another program: {} steps of {} x {} samples, the others {} steps of "
                    "{} x {}",
                    hello.worker, hello.total_steps, hello.micro_batches, hello.batch_size,
                    state_.total_steps, state_.micro_batches, state_.batch_size));
  } else if (const auto objection = ResizeObjection(state_.min_workers, state_.max_workers)) {
    Finish(Phase::kFailed, 2, *objection);
  }
  return !finished_;
}

std::optional<std::string> Coordinator::ResizeObjection(int min_workers, int max_workers) const {
  if (min_workers < 1 || max_workers < min_workers) {
    return fmt::format(
        "workers {}:{} is not a range: the minimum is at least 1 and at most the maximum",
        min_workers, max_workers);
  }
  if (state_.micro_batches > 0 && max_workers > state_.micro_batches) {
    return fmt::format(
        "{} workers are more than the {} micro-batches of a step; use at most {} workers, or more "
        "--micro-batches",
        max_workers, state_.micro_batches, state_.micro_batches);
  }
  return std::nullopt;
}

void Coordinator::RepeatOrders(Worker& worker) {
  const std::string& id = worker.hello.worker;
  if (worker.evicted) {  // the order went down with the former stream
    worker.evicted_at = now_;
    SendTo(id, {Order::Kind::kRejoin, {}, false, fmt::format("{} was evicted", id)});
    return;
  }
  if (state_.active && InActive(id)) {
    const uint64_t active = state_.active->number;
    NoteSwitch(id, worker.generation);
    if (worker.revoked >= active) {
      MarkActiveDead(fmt::format("{} has left generation {}", id, active), now_);
    } else if (worker.generation < active) {
      SendTo(id, {Order::Kind::kGeneration, *state_.active, true, "standing order"});
    }
  } else if (worker.generation != 0) {
    worker.evicted = true;
    worker.evicted_at = now_;
    SendTo(
        id,
        {Order::Kind::kRejoin, {}, false, fmt::format("generation {} is over", worker.generation)});
  }
  if (state_.proposed && !worker.evicted && (InProposed(id) || InActive(id))) {
    SendTo(id, {Order::Kind::kGeneration, *state_.proposed, false, "standing order"});
  }
  if (state_.stop_requested) SendTo(id, {Order::Kind::kStop, {}, false, state_.stop_reason});
}

void Coordinator::On(const WorkerStreamLost& event) {
  Worker& worker = workers_[event.worker];
  if (worker.incarnation != event.incarnation) return;
  worker.connected = false;
  // Two witnesses: its stream has ended and a peer has seen its connection end.
  if (!worker.lost_by.empty() && InActive(event.worker)) {
    Lose(event.worker,
         fmt::format("{} lost its connections to {} and to the coordinator", event.worker,
                     worker.lost_by),
         first_sign_);
  }
}

void Coordinator::On(const WorkerReported& event) {
  const Report& report = event.report;
  const auto found = workers_.find(report.worker);
  if (found == workers_.end() || found->second.incarnation != report.incarnation) return;
  Worker& worker = found->second;
  worker.last_seen = now_;
  if (!worker.registered && !std::exchange(worker.told_to_rejoin, true)) {
    // It lives, but something said of its slot had sounded like its end.
    SendTo(report.worker,
           {Order::Kind::kRejoin, {}, false, fmt::format("{} was given up", report.worker)});
  }
  if (!worker.registered || worker.evicted) return;  // it must say hello first
  TakeFigures(worker, report);
  switch (report.kind) {
    case Report::Kind::kProgress:
      OnProgress(report);
      break;
    case Report::Kind::kRevoked:
      OnRevoked(worker, report);
      break;
    case Report::Kind::kBuildFailed:
      OnBuildFailed(report);
      break;
    case Report::Kind::kResumed:
      OnResumed(report);
      break;
    case Report::Kind::kFailed:
      OnFailed(report);
      break;
    case Report::Kind::kFinished:
      OnFinished(report);
      break;
    case Report::Kind::kNotice:
      Emit(report.notice_kind, report.message);
      break;
  }
}

void Coordinator::TakeFigures(Worker& worker, const Report& report) {
  if (report.step > worker.step && worker.has_state) worker.exits = worker.kills = 0;
  if (report.waiting || worker.waiting || report.step != worker.step) worker.busy_since = now_;
  worker.waiting = report.waiting;
  worker.step = report.step;
  worker.has_state = report.has_state;
  worker.prepared = report.prepared;
  if (report.kind == Report::Kind::kProgress) {
    worker.generation = report.generation;
    worker.loss = report.loss;
    if (report.step_seconds > 0) worker.step_seconds = report.step_seconds;
  }
  if (report.has_state) state_.best_step = std::max(state_.best_step, report.step);
}

void Coordinator::Await(const Member& member) {
  Worker& worker = workers_[member.worker];
  worker.incarnation = std::max(worker.incarnation, member.incarnation);
  worker.awaited = true;
  worker.last_seen = worker.busy_since = now_;
}

void Coordinator::Promote(uint64_t generation) {
  if (!state_.proposed || state_.proposed->number != generation) return;
  state_.active = std::exchange(state_.proposed, std::nullopt);
  ++state_.generations;
  results_.clear();
  active_dead_ = false;
  for (const Member& member : state_.active->members) {
    // A restored coordinator may hear of the switch before it has heard of all who took part in it.
    if (!workers_[member.worker].registered) Await(member);
  }
  PersistState();
}

void Coordinator::OnProgress(const Report& report) {
  Promote(report.generation);
  // While it waits for the others in a generation, that is only the newest one it has prepared.
  NoteSwitch(report.worker, report.generation != 0 ? report.generation : report.prepared);
}

// A vote may still decide for a proposal that was given up in the meantime, perhaps because of one who would be waited for in it,
// perhaps by a former coordinator. All leave it for one that this coordinator knows.
void Coordinator::NoteSwitch(const std::string& id, uint64_t generation) {
  if (!InActive(id) || generation <= state_.active->number) return;
  if (state_.proposed && state_.proposed->number == generation) return;
  Worker& worker = workers_.at(id);
  worker.revoked = std::max(worker.revoked, state_.active->number);
  MarkActiveDead(
      fmt::format("{} has switched to generation {}, which was given up", id, generation), now_);
}

void Coordinator::OnRevoked(Worker& worker, const Report& report) {
  worker.revoked = std::max(worker.revoked, report.generation);
  const bool member = InActive(report.worker);
  if (state_.proposed && report.generation == state_.proposed->number) {
    if (!member) {
      DropProposal(report.message);
    } else {
      Promote(report.generation);  // it had switched already
    }
  }
  if (!state_.active || report.generation < state_.active->number || !InActive(report.worker))
    return;
  MarkActiveDead(report.message, now_);
  const auto lost = workers_.find(report.lost);
  if (lost == workers_.end() || !InActive(report.lost)) return;
  lost->second.lost_by = report.worker;
  if (!lost->second.connected && lost->second.registered) {
    Lose(report.lost,
         fmt::format("{} lost its connections to {} and to the coordinator", report.lost,
                     report.worker),
         first_sign_);
  }
}

void Coordinator::OnBuildFailed(const Report& report) {
  if (state_.proposed && state_.proposed->number == report.generation) {
    DropProposal(report.message);
  } else if (state_.active && state_.active->number == report.generation) {
    MarkActiveDead(fmt::format("{} could not connect: {}", report.worker, report.message), now_);
    Worker& worker = workers_[report.worker];
    worker.revoked = std::max(worker.revoked, report.generation);
  }
}

void Coordinator::OnResumed(const Report& report) {
  Promote(report.generation);
  if (!change_ || change_->generation != report.generation) return;
  MembershipChange& record = change_->record;
  record.connect_ms = std::max(record.connect_ms, report.connect_ms);
  record.state_ms = std::max(record.state_ms, report.state_ms);
  record.resume_ms = std::max(record.resume_ms, report.resume_ms);
  record.steps_redone = std::max(record.steps_redone, report.steps_redone);
  if (change_->resumed.empty()) record.step = report.step;
  change_->resumed.insert(report.worker);
  if (change_->resumed.size() == record.members_after.size()) CloseChange();
}

// What a member found in an earlier generation says nothing: the others of this one may go on from before it, or from after it.
void Coordinator::OnFinished(const Report& report) {
  Promote(report.generation);
  if (!report.result || !state_.active || report.generation != state_.active->number) return;
  results_[report.worker] = *report.result;
}

void Coordinator::OnFailed(const Report& report) {
  failed_worker_ = report.worker;
  const int exit_code = report.checkpoint_error ? 6 : report.usage_error ? 2 : 3;
  Finish(Phase::kFailed, exit_code, fmt::format("{}: {}", report.worker, report.message));
}

// --- Operators ----------------------------------------------------------------------------------------------------------

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

void Coordinator::On(const Tick&) {}

// --- What events change -------------------------------------------------------------------------------------------------

bool Coordinator::InActive(const std::string& id) const {
  if (!state_.active) return false;
  const int rank = state_.active->RankOf(id);
  const auto found = workers_.find(id);
  return rank >= 0 && found != workers_.end() &&
         state_.active->members[static_cast<size_t>(rank)].incarnation == found->second.incarnation;
}

bool Coordinator::InProposed(const std::string& id) const {
  return state_.proposed && state_.proposed->RankOf(id) >= 0;
}

void Coordinator::MarkActiveDead(const std::string& cause, TimePoint first_sign) {
  if (active_dead_) return;
  active_dead_ = true;
  cause_ = cause;
  first_sign_ = first_sign;
  known_ = now_;
}

void Coordinator::DropProposal(const std::string& why) {
  if (!state_.proposed) return;
  Emit("proposal-dropped",
       fmt::format("generation {} is given up: {}", state_.proposed->number, why));
  state_.proposed.reset();
  change_.reset();
  no_proposal_before_ = now_ + options_.join_window * 4;
  PersistState();
}

// `first_sign` may have been seen by a peer before the agent told: the cause is then made precise.
void Coordinator::Lose(const std::string& id, const std::string& cause, TimePoint first_sign) {
  Worker& worker = workers_[id];
  const bool was_member = state_.active && state_.active->RankOf(id) >= 0;
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
  actions_.push_back(EmitEvent{kind, state_.active ? state_.active->number : 0, message, {}});
}

}  // namespace muster
