// RunMirror: copies what operators see of a job into the record of its run, so that it can be read while no coordinator runs, and so
// that the next one goes on where this one has stopped: keys `status`, `events` and, once, `result`.
//
// Threading: one thread of its own. Ownership: record and control outlive it.
#pragma once

#include <cstdint>
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
  // Starts. New events are written within half a second, the status every few. Its end ends a write that is under way.
  RunMirror(RunRecord& record, JobControl& control);

  // Writes the last of everything, and `finished`. Blocks until the server has it. Errors: those of RunRecord::Put.
  Status Finish(const std::string& finished, TimePoint deadline);

 private:
  void Run(const std::stop_token& stop);
  std::map<std::string, std::string> Changes();

  RunRecord& record_;
  JobControl& control_;
  uint64_t written_events_ = 0;  // NextEvent() then; 0: to be written
  std::jthread thread_;          // last: it uses all of the above
};

// Puts the events and the status of a former coordinator into a new job folder.
Status RestoreMirrored(const RunRecord& record, const JobFolder& folder);

}  // namespace muster::kubernetes
