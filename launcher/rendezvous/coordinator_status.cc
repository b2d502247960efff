// What operators see of a job: figures, phase, and one row a slot.
#include <algorithm>

#include "launcher/rendezvous/coordinator.h"

namespace muster {

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kPending:
      return "pending";
    case Phase::kRunning:
      return "running";
    case Phase::kResizing:
      return "resizing";
    case Phase::kRecovering:
      return "recovering";
    case Phase::kSucceeded:
      return "succeeded";
    case Phase::kFailed:
      return "failed";
    case Phase::kStopped:
      return "stopped";
  }
  return "unknown";
}

std::map<std::string, uint64_t> NewestIncarnations(const std::optional<CoordinatorState>& state) {
  std::map<std::string, uint64_t> newest;
  if (!state) return newest;
  for (const auto& generation : {state->active, state->proposed}) {
    if (!generation) continue;
    for (const Member& member : generation->members) {
      newest[member.worker] = std::max(newest[member.worker], member.incarnation);
    }
  }
  return newest;
}

Phase Coordinator::CurrentPhase() const {
  if (finished_) return final_phase_;
  if (!state_.active) return Phase::kPending;
  if (active_dead_) return Phase::kRecovering;
  if (state_.proposed) return Phase::kResizing;
  if (!change_) return Phase::kRunning;
  return last_members_.empty() ? Phase::kPending : Phase::kRecovering;
}

std::string_view Coordinator::StateOf(const std::string& slot, const Worker& worker) const {
  if (worker.slot_failed) return "crash-loop";
  if (IsBarred(worker)) return "cut-off";
  if (worker.evicted) return "evicted";
  if (results_.contains(slot)) return "finished";
  if (InActive(slot)) return state_.proposed && !InProposed(slot) ? "leaving" : "training";
  if (worker.registered) return "joining";
  return worker.incarnation == 0 || worker.running ? "starting" : "restarting";
}

JobStatus Coordinator::Status() const {
  JobStatus status;
  status.phase = CurrentPhase();
  status.generation = state_.active ? state_.active->number : state_.last_generation;
  status.step = state_.best_step;
  status.total_steps = state_.total_steps;
  status.min_workers = state_.min_workers;
  status.max_workers = state_.max_workers;
  status.message = say_missing_ ? message_ + MissingSentence() : message_;
  const uint64_t batch =
      static_cast<uint64_t>(state_.micro_batches) * static_cast<uint64_t>(state_.batch_size);
  status.samples_consumed = status.step * batch;
  if (state_.active && !finished_) {
    status.world_size = static_cast<int>(state_.active->members.size());
  }
  status.loss = results_.empty() ? loss_ : results_.begin()->second.loss;
  double step_seconds = 0;  // of the slowest member
  for (const std::string& slot : state_.slots) {
    WorkerStatus& row = status.workers.emplace_back();
    row.id = slot;
    row.state = "starting";
    const auto found = workers_.find(slot);
    if (found == workers_.end()) continue;
    const Worker& worker = found->second;
    row.pid = worker.pid;
    row.host = worker.hello.host;
    row.device = worker.hello.device;
    row.state = StateOf(slot, worker);
    row.step_seconds = worker.step_seconds;
    if (!InActive(slot)) continue;
    row.rank = ActiveRank(slot);
    step_seconds = std::max(step_seconds, worker.step_seconds);
  }
  if (step_seconds > 0 && !finished_ && status.phase != Phase::kPending) {
    status.samples_per_second = static_cast<double>(batch) / step_seconds;
  }
  return status;
}

}  // namespace muster
