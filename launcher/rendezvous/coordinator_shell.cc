#include "launcher/rendezvous/coordinator_shell.h"

#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kSaveRetry{1};
// Longer than any disk should take, and shorter than any silence after which the core gives somebody up.
constexpr std::chrono::milliseconds kSlowRecord{500};

Error Stopping() { return Error{Code::kUnavailable, "the coordinator is going away", ""}; }

std::string WithItsHint(const Error& error) {
  return error.hint.empty() ? error.message : error.message + "; " + error.hint;
}

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
  Status answer;
  {
    MutexLock lock(mutex_);
    if (stopped_) {
      answer = tl::unexpected(Stopping());
    } else if (!relevant || relevant()) {
      const TimePoint now = MonotonicNow();
      if (saving_since_ && now - *saving_since_ > kSlowRecord) SetRecordAway(true, now);
      std::vector<CoordinatorAction> actions = core_.Handle(event, now);
      if (!actions.empty()) {
        const bool note = std::holds_alternative<PlatformNoted>(event) && actions.size() == 1;
        queue_.push_back({std::move(actions), std::move(done), note});
        return work_arrived_.notify_one();
      }
    }
  }
  if (done) done(answer);
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
    if (work.empty() && stop.stop_requested()) break;
    for (Work& each : work) {
      if (blocked_ && !each.note) {
        held_.push_back(std::move(each));
      } else {
        CarryOut(std::move(each));
      }
    }
    if (unsaved_ && MonotonicNow() >= next_save_) Save();
    Resume();
  }
  for (const Work& work : held_) {
    if (work.done) work.done(tl::unexpected(Stopping()));
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

void CoordinatorShell::CarryOut(Work work) {
  const bool was_blocked = blocked_;
  for (auto action = work.actions.begin(); action != work.actions.end(); ++action) {
    // A core that goes on after its state could not be kept is not listened to any more.
    if (given_up_) break;
    std::visit([this](const auto& each) { Perform(each); }, *action);
    if (blocked_ && !was_blocked) {
      work.actions.erase(work.actions.begin(), action + 1);
      held_.push_front(std::move(work));
      return StatusChanged();
    }
  }
  if (work.done) work.done({});
  StatusChanged();
}

void CoordinatorShell::Resume() {
  while (!blocked_ && !held_.empty()) {
    Work next = std::move(held_.front());
    held_.pop_front();
    CarryOut(std::move(next));
  }
}

void CoordinatorShell::StatusChanged() {
  {
    MutexLock lock(mutex_);
    status_dirty_ = true;
  }
  status_changed_.notify_one();
}

void CoordinatorShell::Perform(const Persist& action) {
  latest_ = action.state;
  Save();
}

void CoordinatorShell::Save() {
  const uint64_t durable = store_.state() ? store_.state()->last_generation : 0;
  const bool generation = latest_.last_generation > durable;
  const Status written = Append(latest_);
  next_save_ = MonotonicNow() + kSaveRetry;
  if (written) return Saved();
  const Error& error = written.error();
  if (error.code == Code::kFailedPrecondition) {
    given_up_ = true;
    blocked_ = unsaved_ = false;
    log::error("fenced=true reason=\"{}\"", error.message);
    if (options_.on_fenced) options_.on_fenced(error.message);
  } else if (generation && error.code != Code::kUnavailable) {
    log::error("journal=failed reason=\"{}\"", error.message);
    GiveUp(fmt::format("generation {} could not be recorded: {}", latest_.last_generation,
                       WithItsHint(error)));
  } else {
    Unsaved(error, generation);
  }
}

// Events that come meanwhile must not make the core give up whom it cannot hear, because answers of ours are late.
Status CoordinatorShell::Append(const CoordinatorState& state) {
  {
    MutexLock lock(mutex_);
    saving_since_ = MonotonicNow();
  }
  const Status written = store_.Append(state);
  MutexLock lock(mutex_);
  saving_since_.reset();
  SetRecordAway(!written && written.error().code == Code::kUnavailable, MonotonicNow());
  return written;
}

void CoordinatorShell::SetRecordAway(bool away, TimePoint now) {
  if (std::exchange(record_away_, away) == away) return;
  std::vector<CoordinatorAction> actions =
      away ? core_.Handle(RecordAway{}, now) : core_.Handle(RecordBack{}, now);
  if (!actions.empty()) queue_.push_back({std::move(actions), {}});
}

void CoordinatorShell::Unsaved(const Error& error, bool generation) {
  // Said once, and again when a generation waits for it too.
  const bool is_news = !unsaved_ || (generation && !blocked_);
  unsaved_ = true;
  blocked_ = generation;
  if (!is_news) return;
  log::error("journal=failed reason=\"{}\"", error.message);
  const std::string what =
      generation ? fmt::format("generation {} waits until it is recorded", latest_.last_generation)
                 : "the coordinator cannot record its state and goes on without";
  Perform(EmitEvent{"journal-failed", latest_.active ? latest_.active->number : 0,
                    fmt::format("{}: {}", what, WithItsHint(error)), std::nullopt});
}

void CoordinatorShell::Saved() {
  if (std::exchange(unsaved_, false)) {
    Perform(EmitEvent{"journal-works", latest_.active ? latest_.active->number : 0,
                      "the coordinator records its state again", std::nullopt});
  }
  blocked_ = false;
  if (options_.on_state) options_.on_state(latest_);
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
  blocked_ = unsaved_ = false;
  Perform(EmitEvent{"failed", latest_.last_generation, reason, std::nullopt});
  Perform(FinishJob{Phase::kFailed, 1, reason, std::nullopt, "", ""});
  for (const std::string& slot : latest_.slots) {
    outlet_->Send(SendAgent{slot, SendAgent::Kind::kShutDownNow, reason});
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
