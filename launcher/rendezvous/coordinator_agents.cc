// What the coordinator hears from agents and from the platform: processes that start and end, slots that come and go.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "launcher/rendezvous/coordinator.h"

namespace muster {

namespace {

std::string ExitSentence(const std::string& slot, int exit_code, int signal) {
  return signal != 0 ? fmt::format("{} was killed by signal {}", slot, signal)
                     : fmt::format("{} exited with code {}", slot, exit_code);
}

// ": error: cuda:1 is not in order", the last line of a worker that ended by itself and not well; else nothing.
std::string LastWords(const WorkerExited& event) {
  constexpr size_t kMost = 300;
  if (event.signal != 0 || event.exit_code == 0) return "";
  std::string_view text = event.last_output;
  text = text.substr(0, text.find_last_not_of("\r\n") + 1);
  text = text.substr(text.find_last_of('\n') + 1);
  return text.empty() || text.size() > kMost ? "" : fmt::format(": {}", text);
}

}  // namespace

// A slot that the platform has made may be heard of by its agent first.
bool Coordinator::Needless(const std::string& slot) const {
  return !options_.slots_from_platform && !KnownSlot(slot);
}

void Coordinator::On(const AgentAttached& event) {
  if (Needless(event.slot)) {
    actions_.push_back(
        SendAgent{event.slot, SendAgent::Kind::kShutDown, "this slot is not needed"});
  }
}

void Coordinator::On(const AgentAlive&) {}

void Coordinator::On(const WorkerStarted& event) {
  if (Needless(event.slot)) {
    Dismiss(event.slot, event.incarnation);
    PersistState();
  }
  if (WasDismissed(event.slot, event.incarnation)) return;
  Worker& worker = workers_[event.slot];
  if (event.incarnation < worker.incarnation) return;
  if (event.incarnation > worker.incarnation && (worker.registered || worker.awaited)) {
    Lose(event.slot, fmt::format("{} was started again", event.slot), worker.last_seen);
  }
  if (event.incarnation > worker.incarnation) worker.registered = worker.connected = false;
  worker.incarnation = event.incarnation;
  worker.pid = event.pid;
  worker.running = true;
}

void Coordinator::On(const WorkerExited& event) {
  if (!KnownSlot(event.slot)) return;
  if (WasDismissed(event.slot, event.incarnation)) {
    // Its agent may stay, and starts nothing by itself after a worker that has ended in order.
    actions_.push_back(
        SendAgent{event.slot, SendAgent::Kind::kRestartWorker, "this slot is needed again"});
    return;
  }
  Worker& worker = workers_[event.slot];
  if (event.incarnation < worker.incarnation) return;
  worker.incarnation = event.incarnation;
  worker.running = false;
  if (ExitEndsJob(event)) return;
  if (event.exit_code == 0 && results_.contains(event.slot)) {
    worker.registered = worker.connected = false;
    return;
  }
  const std::string sentence = ExitSentence(event.slot, event.exit_code, event.signal);
  Emit("worker-exited", sentence + LastWords(event));
  Lose(event.slot, sentence, active_dead_ ? first_sign_ : now_);
  CountCrash(event);
  if (event.exit_code == 0 && !worker.slot_failed && !finished_) {
    // A joiner. Its agent starts nothing by itself after a code of 0.
    actions_.push_back(
        SendAgent{event.slot, SendAgent::Kind::kRestartWorker, "this slot is needed"});
  }
}

bool Coordinator::ExitEndsJob(const WorkerExited& event) {
  failed_worker_ = event.slot;
  failed_output_ = event.last_output;
  if (!event.error.empty()) {
    Finish(Phase::kFailed, 2, fmt::format("{} could not be started: {}", event.slot, event.error));
  } else if (event.exit_code == 2) {
    Finish(Phase::kFailed, 2,
           fmt::format("{} refused its configuration (exit code 2)", event.slot));
  } else if (event.exit_code == 6) {
    Finish(Phase::kFailed, 6,
           fmt::format("{} found no usable checkpoint (exit code 6)", event.slot));
  } else if (event.exit_code == 0 && !results_.contains(event.slot)) {
    const Worker& worker = workers_[event.slot];
    // Its peers may have reported it lost before: it has been a member all the same.
    const bool trained = worker.member_as == event.incarnation;
    const bool joined = trained || worker.hello.incarnation == event.incarnation;
    if (joined && !trained) return false;
    Finish(Phase::kFailed, 3,
           joined
               ? fmt::format("{} exited with code 0 before the job had finished", event.slot)
               : fmt::format("{} exited with code 0 without joining the job: the program must call "
                             "muster::Train or muster::Session (docs/training-api.md)",
                             event.slot));
  }
  return finished_;
}

// Whether others train, or are enough to begin.
bool Coordinator::CanDoWithout(const std::string& slot) const {
  if (state_.active) return state_.active->members.size() > (InActive(slot) ? 1 : 0);
  const auto usable = std::ranges::count_if(
      workers_, [&](const auto& entry) { return entry.first != slot && Usable(entry.second); });
  return usable >= Quorum();
}

void Coordinator::CountCrash(const WorkerExited& event) {
  Worker& worker = workers_[event.slot];
  const bool hung = std::exchange(worker.restart_sent, false);  // it was killed for that
  const bool killed = event.signal == SIGKILL && !hung;
  worker.crashed_at = std::max(worker.crashed_at, state_.best_step);
  int& count = killed ? worker.kills : worker.exits;
  if (++count < (killed ? options_.kill_limit : options_.crash_limit)) return;
  const std::string sentence =
      fmt::format("{}, {} times in a row without committing a step{}",
                  hung ? fmt::format("{} hung and was ended", event.slot)
                       : ExitSentence(event.slot, event.exit_code, event.signal),
                  count, LastWords(event));
  if (!CanDoWithout(event.slot)) {
    Finish(Phase::kFailed, 3, sentence);
    return;
  }
  worker.slot_failed = true;
  crash_loop_ = sentence;
  Emit("crash-loop", sentence + "; it is not started again");
  actions_.push_back(SendAgent{event.slot, SendAgent::Kind::kShutDown, sentence});
}

void Coordinator::On(const SlotExited& event) {
  const auto found = workers_.find(event.slot);
  if (found == workers_.end() || !KnownSlot(event.slot) || finished_) return;
  const std::string sentence =
      event.reason.empty()
          ? "the agent of " + ExitSentence(event.slot, event.exit_code, event.signal)
          : event.reason;
  Emit("agent-exited", sentence);
  found->second.running = false;
  Lose(event.slot, sentence, active_dead_ ? first_sign_ : now_);
}

// --- The platform -------------------------------------------------------------------------------------------------------

void Coordinator::On(const PlatformNoted& event) { Emit(event.kind, event.message); }

void Coordinator::On(const PlatformFailed& event) {
  Finish(Phase::kFailed, event.exit_code, event.message);
}

std::string Coordinator::WhyLeaving(const std::string& slot) const {
  const auto found = offered_.leaving.find(slot);
  return found != offered_.leaving.end() ? found->second : "the job has been resized";
}

// --- Slots that come and go ---------------------------------------------------------------------------------------------

// A process that was told to go stays dismissed when its slot is wanted again: another one will come.
void Coordinator::Dismiss(const std::string& slot, uint64_t incarnation) {
  if (!WasDismissed(slot, incarnation)) state_.dismissed[slot] = incarnation;
}

bool Coordinator::WasDismissed(const std::string& slot, uint64_t incarnation) const {
  const auto found = state_.dismissed.find(slot);
  return found != state_.dismissed.end() && incarnation <= found->second;
}

}  // namespace muster
