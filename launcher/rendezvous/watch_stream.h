// WatchStream: the stream of one who watches a job's events: stored ones from a number on, live ones, progress in between, and at
// last the `finished` object. It pulls events by number, so that a slow reader costs no memory and holds nobody up.
//
// Threading: as PumpStream. This header brings in gRPC; include it from .cc files only.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "launcher/rendezvous/job_control.h"
#include "launcher/rendezvous/pump_stream.h"
#include "runtime/proto/muster.pb.h"

namespace muster {

class WatchStream final : public PumpStream<v1::JsonReply> {
 public:
  WatchStream(JobControl& control, uint64_t from) : control_(control), next_(from) {}

  // Replaces a progress object that has not been sent.
  void SetProgress(const std::string& json) EXCLUDES(state_mutex_);
  // The stream ends after this object.
  void SetFinished(const std::string& json) EXCLUDES(state_mutex_);

 private:
  Step NextStep() override EXCLUDES(state_mutex_);

  JobControl& control_;
  // Touched by NextStep only.
  uint64_t next_;
  std::deque<std::string> batch_;
  bool finished_sent_ = false;

  Mutex state_mutex_;
  std::optional<std::string> progress_ GUARDED_BY(state_mutex_);
  std::optional<std::string> finished_ GUARDED_BY(state_mutex_);
};

}  // namespace muster
