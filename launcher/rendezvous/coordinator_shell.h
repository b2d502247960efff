// CoordinatorShell: runs the coordinator core: gives it events and the time, carries out its actions in order, keeps journal,
// events.jsonl, status.json and result.json.
//
//   Submit (any thread) --lock--> core.Handle --> queue --> action thread: journal, orders, events, finish --> done
//   status thread: status.json and progress every 100 ms, and at once when something changed
//
// If the store cannot be written (disk full), the job goes on as long as no new generation is needed; a generation that is
// not durable is never given away: the job fails then, and says why. Where the store is only away (kUnavailable), that generation and
// what comes after it wait, however long: who trains goes on, and notes of the platform are told. While the store is away or takes long,
// the core decides nothing. If the store belongs to another coordinator by now, the shell does nothing more: the job is that one's.
//
// Threading: all methods are safe from any thread. Ownership: store, events and the outlet must outlive the shell (the outlet
// from Start on); the functions given to Submit are called before Stop returns.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <thread>

#include "launcher/job/job.h"
#include "launcher/rendezvous/event_log.h"
#include "launcher/rendezvous/job_control.h"
#include "launcher/rendezvous/state_store.h"
#include "launcher/rendezvous/status_json.h"
#include "runtime/base/thread_annotations.h"

namespace muster {

struct ShellOptions {
  JobIdentity job;
  CoordinatorOptions coordinator;
  JobFolder folder;  // status.json and result.json go here
  WallTime created;  // "seconds" of the result counts from here
  Duration tick = std::chrono::milliseconds(20);
  Duration status_period = std::chrono::milliseconds(100);
  // Called with each state once it is durable; may be empty.
  std::function<void(const CoordinatorState&)> on_state;
  // Called once, when the result has been written and told, with the `finished` object; may be empty.
  std::function<void(const std::string&)> on_finished;
  // Called once, when the store has said that another coordinator has taken over (kFailedPrecondition): nothing is done from then on,
  // and the process should end. May be empty.
  std::function<void(const std::string& reason)> on_fenced;
  // A JSON object about the platform that `status` shows as "platform_status"; may be empty.
  std::function<std::string()> platform_status;
};

class CoordinatorShell final : public JobControl {
 public:
  // Restores the core from the store.
  CoordinatorShell(ShellOptions options, StateStore& store, EventLog& events);
  ~CoordinatorShell() override;

  // Begins to act. Once.
  void Start(JobOutlet& outlet);

  // Ends the threads; events from now on are answered with kUnavailable. What the core has decided before is carried out.
  void Stop();

  void Submit(CoordinatorEvent event, Done done, Relevant relevant) override EXCLUDES(mutex_);
  Status CheckResize(int min_workers, int max_workers) override EXCLUDES(mutex_);
  std::string StatusText() override EXCLUDES(mutex_);
  std::vector<std::string> ReadEvents(uint64_t from, size_t limit) override;
  uint64_t NextEvent() override;

 private:
  struct Work {
    std::vector<CoordinatorAction> actions;
    Done done;
    bool note = false;  // tells an event and nothing else
  };

  void ActionLoop(std::stop_token stop) EXCLUDES(mutex_);
  std::deque<Work> WaitForWork(std::stop_token stop) EXCLUDES(mutex_);
  void CarryOut(Work work) EXCLUDES(mutex_);
  void Resume() EXCLUDES(mutex_);
  void StatusChanged() EXCLUDES(mutex_);
  void Perform(const Persist& action);
  void Perform(const SendOrder& action);
  void Perform(const SendAgent& action);
  void Perform(const SetSlots& action);
  void Perform(const EmitEvent& action);
  void Perform(const FinishJob& action) EXCLUDES(mutex_);
  void GiveUp(const std::string& reason) EXCLUDES(mutex_);
  void Save() EXCLUDES(mutex_);
  Status Append(const CoordinatorState& state) EXCLUDES(mutex_);
  void SetRecordAway(bool away, TimePoint now) REQUIRES(mutex_);
  void Unsaved(const Error& error, bool generation);
  void Saved();

  void StatusLoop(std::stop_token stop) EXCLUDES(mutex_);
  void WriteStatus() EXCLUDES(mutex_);
  JobStatus CurrentStatus() EXCLUDES(mutex_);
  std::string TextOf(const JobStatus& status) const;

  const ShellOptions options_;
  StateStore& store_;
  EventLog& events_;
  JobOutlet* outlet_ = nullptr;

  Mutex mutex_;
  std::condition_variable_any work_arrived_;
  std::condition_variable_any status_changed_;
  Coordinator core_ GUARDED_BY(mutex_);
  std::deque<Work> queue_ GUARDED_BY(mutex_);
  TimePoint next_tick_ GUARDED_BY(mutex_){};
  bool stopped_ GUARDED_BY(mutex_) = false;
  bool status_dirty_ GUARDED_BY(mutex_) = false;
  std::optional<TimePoint> saving_since_ GUARDED_BY(mutex_);
  bool record_away_ GUARDED_BY(mutex_) = false;         // the core has been told so
  std::optional<FinishJob> finish_ GUARDED_BY(mutex_);  // how the job ended, once it has

  // Touched by the action thread only.
  bool unsaved_ = false;   // the store lacks the latest state
  bool blocked_ = false;   // and nobody may hear of that
  std::deque<Work> held_;  // what waits for it
  TimePoint next_save_{};
  CoordinatorState latest_;
  bool given_up_ = false;
  // The status thread's; the action thread's when that has ended.
  bool status_works_ = true;
  TimePoint next_progress_{};

  std::jthread status_thread_;
  std::jthread action_thread_;
};

}  // namespace muster
