// JobStatus: what operators see of a job.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

enum class Phase { kPending, kRunning, kResizing, kRecovering, kSucceeded, kFailed, kStopped };
std::string_view PhaseName(Phase phase);

struct WorkerStatus {
  std::string id;
  int rank = -1;
  int64_t pid = 0;
  std::string host;
  std::string device;
  std::string state;  // starting, joining, training, evicted, restarting, leaving, finished
  double step_seconds = 0;
};

struct JobStatus {
  Phase phase = Phase::kPending;
  uint64_t generation = 0;
  uint64_t step = 0;
  uint64_t total_steps = 0;
  int world_size = 0;
  int min_workers = 0;
  int max_workers = 0;
  double loss = std::numeric_limits<double>::quiet_NaN();  // NaN: not known yet
  double samples_per_second = 0;
  uint64_t samples_consumed = 0;
  std::vector<WorkerStatus> workers;
  std::string message;  // what it is doing or waiting for, and why
};

}  // namespace muster
