// What the coordinator hears from workers: hellos, reports, streams that end.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/rendezvous/coordinator.h"

namespace muster {

void Coordinator::On(const WorkerHello& event) {
  const Hello& hello = event.hello;
  if (Needless(hello.worker)) {
    Dismiss(hello.worker, hello.incarnation);
    PersistState();
  }
  if (WasDismissed(hello.worker, hello.incarnation)) {
    actions_.push_back(
        SendOrder{hello.worker,
                  hello.incarnation,
                  {Order::Kind::kRelease, {}, false, "this slot is not needed any more"}});
    return;
  }
  Worker& worker = workers_[hello.worker];
  if (hello.incarnation < worker.incarnation) return;
  if (hello.incarnation > worker.incarnation) Unbar(worker);
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
  worker.busy_since = worker.waiting_since = now_;
  worker.waiting = true;
  worker.lost_by.clear();
  worker.generation = hello.generation;
  worker.revoked = std::max(worker.revoked, hello.revoked);
  worker.step = hello.step;
  worker.has_state = hello.has_state;
  if (!AcceptProgram(hello)) return;
  if (hello.generation == 0 && worker.evicted) {
    worker.evicted = false;
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
  } else if (const uint64_t stray = StrayGeneration(worker.hello)) {
    worker.evicted = true;
    worker.evicted_at = now_;
    SendTo(id, {Order::Kind::kRejoin, {}, false, fmt::format("generation {} is over", stray)});
  }
  if (state_.proposed && !worker.evicted && (InProposed(id) || InActive(id))) {
    SendTo(id, {Order::Kind::kGeneration, *state_.proposed, false, "standing order"});
  }
  if (state_.stop_requested) SendTo(id, {Order::Kind::kStop, {}, false, state_.stop_reason});
}

// A generation that one who is no member is in, or is about to enter by an order of before, or of a former coordinator; 0 if none.
uint64_t Coordinator::StrayGeneration(const Hello& hello) const {
  if (hello.generation != 0) return hello.generation;
  const bool proposed = InProposed(hello.worker) && state_.proposed->number == hello.entering;
  return proposed ? 0 : hello.entering;
}

void Coordinator::Await(const Member& member) {
  Worker& worker = workers_[member.worker];
  worker.incarnation = std::max(worker.incarnation, member.incarnation);
  worker.awaited = true;
  worker.member_as = std::max(worker.member_as, member.incarnation);
  worker.last_seen = worker.busy_since = now_;
}

void Coordinator::On(const WorkerStreamLost& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end() || found->second.incarnation != event.incarnation) return;
  Worker& worker = found->second;
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
  nothing_follows_ = IsRoutine(worker, report);
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

// It says what its worker has said before, but for steps and figures.
bool Coordinator::IsRoutine(const Worker& worker, const Report& report) const {
  return report.kind == Report::Kind::kProgress && worker.generation == report.generation &&
         worker.prepared == report.prepared && worker.has_state == report.has_state &&
         (!state_.active || report.generation <= state_.active->number);
}

void Coordinator::TakeFigures(Worker& worker, const Report& report) {
  // Steps that are done again after all members were lost are no progress.
  if (worker.has_state && report.step > std::max(worker.step, worker.crashed_at)) {
    worker.exits = worker.kills = 0;
  }
  const bool ended = report.waiting || report.step != worker.step;
  if (ended && !worker.waiting && IsActive(report.worker, worker)) {
    longest_step_ = std::max(longest_step_, now_ - worker.busy_since);
    ++steps_measured_;
  }
  if (ended || worker.waiting) worker.busy_since = now_;
  if (!worker.waiting || report.step != worker.step) worker.waiting_since = now_;
  worker.waiting = report.waiting;
  worker.step = report.step;
  worker.has_state = report.has_state;
  worker.prepared = report.prepared;
  if (report.kind == Report::Kind::kProgress) {
    worker.generation = report.generation;
    if (report.step_seconds > 0) worker.step_seconds = report.step_seconds;
  }
  if (!report.has_state || report.step < state_.best_step) return;
  state_.best_step = report.step;
  if (report.step > 0) loss_ = report.loss;
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
  for (const std::string& silent : report.unreachable) {
    if (InActive(silent)) workers_.at(silent).lost_by = report.worker;
  }
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
    // Whoever trains is not to blame.
    for (const std::string& other : report.unreachable) {
      const std::string& joiner = InActive(other) ? report.worker : other;
      if (!InActive(joiner) && workers_.contains(joiner)) Bar(joiner);
    }
    DropProposal(report.message);
  } else if (state_.active && state_.active->number == report.generation) {
    MarkActiveDead(fmt::format("{} could not connect: {}", report.worker, report.message), now_);
    Worker& worker = workers_[report.worker];
    worker.revoked = std::max(worker.revoked, report.generation);
    std::vector<int> unreachable;
    for (const std::string& other : report.unreachable) {
      if (const int rank = ActiveRank(other); rank >= 0) unreachable.push_back(rank);
    }
    if (const int rank = ActiveRank(report.worker); rank >= 0) sides_.Say(rank, unreachable);
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
  nothing_follows_ = change_.has_value();  // more of them will come
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

}  // namespace muster
