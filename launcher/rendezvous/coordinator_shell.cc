#include "launcher/rendezvous/coordinator_shell.h"

#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kSaveRetry{1};

Error Stopping() { return Error{Code::kUnavailable, "the coordinator is going away", ""}; }

}  // namespace

CoordinatorShell::CoordinatorShell(ShellOptions options, StateStore& store, EventLog& events)
    : options_(std::move(options)),
      store_(store),
      events_(events),
      core_(options_.coordinator, store.state(), MonotonicNow()) {
  if (store.state()) latest_ = *store.state();
  // Before any event can be submitted: these actions come first.
  queue_.push_back({core_.Start(MonotonicNow()), {}});
}

CoordinatorShell::~CoordinatorShell() { Stop(); }

void CoordinatorShell::Start(JobOutlet& outlet) {
  outlet_ = &outlet;
  {
    MutexLock lock(mutex_);
    next_tick_ = MonotonicNow() + options_.tick;
  }
  status_thread_ = std::jthread([this](std::stop_token stop) { StatusLoop(stop); });
  action_thread_ = std::jthread([this](std::stop_token stop) { ActionLoop(stop); });
}

void CoordinatorShell::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  action_thread_ = std::jthread();  // asks it to stop and joins it
  status_thread_ = std::jthread();
}

void CoordinatorShell::Submit(CoordinatorEvent event, Done done, Relevant relevant) {
  std::optional<Status> answer;
  {
    MutexLock lock(mutex_);
    if (stopped_) {
      answer = tl::unexpected(Stopping());
    } else if (relevant && !relevant()) {
      answer = Status();
    } else {
      std::vector<CoordinatorAction> actions = core_.Handle(event, MonotonicNow());
      if (actions.empty()) {
        answer = Status();
      } else {
        queue_.push_back({std::move(actions), std::move(done)});
      }
    }
  }
  if (!answer) return work_arrived_.notify_one();
  if (done) done(*answer);
}

Status CoordinatorShell::CheckResize(int min_workers, int max_workers) {
  MutexLock lock(mutex_);
  if (finish_ || core_.finished()) return Err(Code::kFailedPrecondition, "the job has ended");
  const std::optional<std::string> objection = core_.ResizeObjection(min_workers, max_workers);
  if (!objection) return {};
  return Err(Code::kInvalidArgument, "{}", *objection);
}

std::string CoordinatorShell::StatusText() { return TextOf(CurrentStatus()); }

std::string CoordinatorShell::TextOf(const JobStatus& status) const {
  const std::string platform = options_.platform_status ? options_.platform_status() : "";
  return StatusJson(options_.job, status, platform);
}

std::vector<std::string> CoordinatorShell::ReadEvents(uint64_t from, size_t limit) {
  return events_.Read(from, limit);
}

uint64_t CoordinatorShell::NextEvent() { return events_.next_sequence(); }

// --- Actions ------------------------------------------------------------------------------------------------------------

void CoordinatorShell::ActionLoop(std::stop_token stop) {
  while (true) {
    std::deque<Work> work = WaitForWork(stop);
    if (work.empty() && stop.stop_requested()) return;
    for (Work& each : work) CarryOut(each);
    if (unsaved_ && MonotonicNow() >= next_save_) RetryPersist();
  }
}

// What is queued, a tick's actions among it. Empty only when the thread should end, or a tick had nothing to say.
std::deque<CoordinatorShell::Work> CoordinatorShell::WaitForWork(std::stop_token stop) {
  MutexLock lock(mutex_);
  work_arrived_.wait_until(mutex_, stop, next_tick_,
                           [this]() REQUIRES(mutex_) { return !queue_.empty(); });
  const TimePoint now = MonotonicNow();
  if (now >= next_tick_ && !stopped_) {
    next_tick_ = now + options_.tick;
    std::vector<CoordinatorAction> actions = core_.Handle(Tick{}, now);
    if (!actions.empty()) queue_.push_back({std::move(actions), {}});
  }
  return std::exchange(queue_, {});
}

void CoordinatorShell::CarryOut(Work& work) {
  for (const CoordinatorAction& action : work.actions) {
    // A core that goes on after its state could not be kept is not listened to any more.
    if (given_up_) break;
    std::visit([this](const auto& each) { Perform(each); }, action);
  }
  if (work.done) work.done({});
  {
    MutexLock lock(mutex_);
    status_dirty_ = true;
  }
  status_changed_.notify_one();
}

void CoordinatorShell::Perform(const Persist& action) {
  const uint64_t durable = store_.state() ? store_.state()->last_generation : 0;
  latest_ = action.state;
  const Status written = store_.Append(action.state);
  if (written) return Saved();
  if (written.error().code == Code::kFailedPrecondition) {
    given_up_ = true;
    log::error("fenced=true reason=\"{}\"", written.error().message);
    if (options_.on_fenced) options_.on_fenced(written.error().message);
    return;
  }
  log::error("journal=failed reason=\"{}\"", written.error().message);
  if (action.state.last_generation > durable) {
    GiveUp(fmt::format("generation {} could not be recorded: {}", action.state.last_generation,
                       written.error().message));
    return;
  }
  if (!unsaved_) {
    Perform(EmitEvent{"journal-failed", latest_.active ? latest_.active->number : 0,
                      fmt::format("the coordinator cannot record its state and goes on without: {}",
                                  written.error().message),
                      std::nullopt});
  }
  unsaved_ = true;
  next_save_ = MonotonicNow() + kSaveRetry;
}

void CoordinatorShell::Saved() {
  if (unsaved_) log::info("journal=works-again");
  unsaved_ = false;
  if (options_.on_state) options_.on_state(latest_);
}

void CoordinatorShell::RetryPersist() {
  const Status written = store_.Append(latest_);
  next_save_ = MonotonicNow() + kSaveRetry;
  if (written) Saved();
}

void CoordinatorShell::Perform(const SendOrder& action) { outlet_->Send(action); }
void CoordinatorShell::Perform(const SendAgent& action) { outlet_->Send(action); }
void CoordinatorShell::Perform(const SetSlots& action) { outlet_->Send(action); }

void CoordinatorShell::Perform(const EmitEvent& action) {
  events_.Append(action, std::chrono::system_clock::now());
  outlet_->EventsChanged();
  log::info("event={} generation={} message=\"{}\"", action.kind, action.generation,
            action.message);
}

void CoordinatorShell::Perform(const FinishJob& action) {
  {
    MutexLock lock(mutex_);
    if (finish_) return;
    finish_ = action;
  }
  status_thread_ = std::jthread();  // from here on this thread has status.json
  WriteStatus();
  const double seconds =
      std::chrono::duration<double>(std::chrono::system_clock::now() - options_.created).count();
  const std::string finished = FinishedJson(action, CurrentStatus(), latest_.generations, seconds);
  const Status written =
      WriteFileAtomically(options_.folder.result(), finished + "\n", /*durable=*/true);
  if (!written) log::error("result=not-written reason=\"{}\"", written.error().message);
  outlet_->Finished(finished);
  if (options_.on_finished) options_.on_finished(finished);
}

// Ends the job without the core: it has decided what must not happen.
void CoordinatorShell::GiveUp(const std::string& reason) {
  given_up_ = true;
  const std::string message = reason + "; free some space and resume from the last checkpoint";
  Perform(EmitEvent{"failed", latest_.last_generation, message, std::nullopt});
  Perform(FinishJob{Phase::kFailed, 1, message, std::nullopt, "", ""});
  for (const std::string& slot : latest_.slots) {
    outlet_->Send(SendAgent{slot, SendAgent::Kind::kShutDownNow, message});
  }
  outlet_->Send(SetSlots{});
}

// --- Status -------------------------------------------------------------------------------------------------------------

void CoordinatorShell::StatusLoop(std::stop_token stop) {
  while (!stop.stop_requested()) {
    WriteStatus();
    MutexLock lock(mutex_);
    status_changed_.wait_for(mutex_, stop, options_.status_period,
                             [this]() REQUIRES(mutex_) { return status_dirty_; });
    status_dirty_ = false;
  }
}

void CoordinatorShell::WriteStatus() {
  const JobStatus status = CurrentStatus();
  const Status written = WriteFileAtomically(options_.folder.status(), TextOf(status) + "\n");
  if (written.has_value() != status_works_) {
    status_works_ = written.has_value();
    log::warn("status_file={} {}", options_.folder.status().string(),
              status_works_ ? std::string("works-again") : written.error().message);
  }
  const TimePoint now = MonotonicNow();
  if (now < next_progress_) return;
  next_progress_ = now + options_.status_period;
  outlet_->Progress(ProgressJson(status));
}

JobStatus CoordinatorShell::CurrentStatus() {
  MutexLock lock(mutex_);
  JobStatus status = core_.Status();
  if (finish_) {
    status.phase = finish_->phase;
    status.message = finish_->message;
  }
  return status;
}

}  // namespace muster
