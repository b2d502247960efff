// SavedWriter: makes what FleetCore wants to remember durable in the run's record, in the background: it may take long, and what is
// newer replaces what is not written yet.
//
// Threading: one thread of its own writes and calls `told`. Ownership: the record outlives it. The destructor gives up what is under
// way; milliseconds.
#pragma once

#include <condition_variable>
#include <functional>
#include <optional>
#include <thread>

#include "launcher/platform/kubernetes/fleet_actions.h"
#include "launcher/platform/kubernetes/run_record.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {

class SavedWriter {
 public:
  // How an attempt to write number `number` ended. It is repeated after all errors but those after which the record is not ours.
  using Told = std::function<void(uint64_t number, const Status& written)>;

  SavedWriter(RunRecord& record, Duration attempt_timeout, Told told);
  ~SavedWriter();
  SavedWriter(const SavedWriter&) = delete;
  SavedWriter& operator=(const SavedWriter&) = delete;

  // `number` is higher than before. Once it is durable, all before it count as that too.
  void Write(fleet::FleetSaved saved, uint64_t number) EXCLUDES(mutex_);

 private:
  struct Wish {
    fleet::FleetSaved saved;
    uint64_t number = 0;
  };

  void Run(const std::stop_token& stop) EXCLUDES(mutex_);

  RunRecord& record_;
  const Duration attempt_timeout_;
  const Told told_;

  Mutex mutex_;
  std::condition_variable_any arrived_;
  std::optional<Wish> wish_ GUARDED_BY(mutex_);

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace muster::kubernetes
