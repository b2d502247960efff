// CoordinatorOptions: how many workers a job wants, and how long the coordinator waits for what.
//
// Threading: plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/base/time.h"

namespace muster {

struct CoordinatorOptions {
  std::string job;
  uint64_t known_step =
      0;                // a step that a former coordinator has shown to users: it must not go down
  int min_workers = 1;  // with min == max: all are needed to start, one is enough to go on
  int max_workers = 1;
  // SlotsOffered says which slots there are, under names that are never used twice. Otherwise they are "w-0" to "w-<max-1>".
  bool slots_from_platform = false;
  Duration heartbeat_timeout = std::chrono::seconds(3);  // silence after which a worker is evicted
  Duration step_timeout =
      std::chrono::seconds(60);  // computing without end after which one is evicted
  Duration start_timeout =
      std::chrono::seconds(60);  // waiting for enough workers before the job fails
  Duration join_window =
      std::chrono::milliseconds(50);  // joins this close together share a generation
  Duration gather_window =
      std::chrono::seconds(2);  // at a start below the maximum: wait for more this long
  Duration prepare_timeout =
      std::chrono::seconds(10);  // a joiner that is not connected by then is left out
  Duration stop_timeout = std::chrono::seconds(60);  // for the step and the checkpoint of a stop
  Duration hang_grace =
      std::chrono::seconds(30);  // an evicted worker that stays silent is killed after this
  int crash_limit = 5;           // exits in a row without one committed step
  int kill_limit = 20;           // the same, for exits by SIGKILL
};

}  // namespace muster
