// RunMirror: copies what operators see of a job into the record of its run, so that it can be read while no coordinator runs, and so
// that the next one goes on where this one has stopped: keys `status`, `events` and, once, `result`.
//
// Threading: one thread of its own. Ownership: record and control outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>

#include "launcher/job/job.h"
#include "launcher/platform/kubernetes/run_record.h"
#include "launcher/rendezvous/job_control.h"

namespace muster::kubernetes {

inline constexpr size_t kMaxEventBytes = 128 << 10;

class RunMirror {
 public:
  // How a write went, on the mirror's thread.
  using Told = std::function<void(const Status& written)>;

  // Starts. New events are written within half a second, the status every few. Its end ends a write that is under way.
  RunMirror(RunRecord& record, JobControl& control, Told told);

  // Writes the last of everything, and `finished`. Blocks until the server has it, whatever it says meanwhile, or until the deadline.
  // Errors: those of RunRecord::Put.
  Status Finish(const std::string& finished, TimePoint deadline);

 private:
  void Run(const std::stop_token& stop);
  std::map<std::string, std::string> Changes();

  RunRecord& record_;
  JobControl& control_;
  const Told told_;
  uint64_t written_events_ = 0;  // NextEvent() then; 0: to be written
  std::jthread thread_;          // last: it uses all of the above
};

// Puts the events and the status of a former coordinator into a new job folder.
Status RestoreMirrored(const RunRecord& record, const JobFolder& folder);

}  // namespace muster::kubernetes
