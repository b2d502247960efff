// JobLink: the supervisor's line to the coordinator: wanted slots and events come in, slot reports and stop requests go out. The
// coordinator may come and go meanwhile.
//
// Threading: all methods are safe from any thread and do not block. Three threads of its own wait for the coordinator;
// `wake` is called from them when there is something to take.
// Ownership: what `wake` captures must outlive the link.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/job/job.h"

namespace muster {

struct EndedSlot {
  std::string slot;
  int64_t pid = 0;
  int exit_code = 0;  // -1 after a signal
  int signal = 0;
};

class JobLink {
 public:
  JobLink(JobFolder folder, std::string job, std::string secret, std::function<void()> wake);
  ~JobLink();  // cancels what is under way; returns within milliseconds
  JobLink(const JobLink&) = delete;
  JobLink& operator=(const JobLink&) = delete;

  // The slots that the coordinator wants, if it has said so since the last call.
  std::optional<std::vector<std::string>> TakeSlots();

  // The events since the last call, one JSON object each, in order; each stored event once, also when the coordinator was
  // restarted in between.
  std::vector<std::string> TakeEvents();

  // Repeated until the coordinator has taken them; in order.
  void ReportSlot(const EndedSlot& slot);
  void RequestStop(const std::string& reason);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
