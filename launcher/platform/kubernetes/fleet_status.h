// FleetStatus: what `launcher status` shows of the pods of a job, and which of them stand.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::fleet {

struct PoolStatus {
  std::string name;
  int min = 0;
  int max = 0;
  int running = 0;   // of them some may be on their way out
  int waiting = 0;   // asked for, or pending
  int leaving = 0;   // being deleted, by us or by others
  int members = 0;   // in the ring
  std::string note;  // why it does not ask for what is missing; empty: nothing keeps it
};

struct WaitingPod {
  std::string pod;
  std::string sentence;
};

// A pod that is asked for, or there and not ended.
struct StandingPod {
  std::string pool;
  int64_t serial = 0;
  std::string leaving;  // why it goes; empty: it stays
};

struct FleetStatus {
  std::string
      phase;  // "listing" | "starting" | "giving up" | "pausing" | "running" | "stopping" | "failed" | "done"
  int gang_failures = 0;
  std::vector<PoolStatus> pools;
  std::vector<WaitingPod> waiting;
  std::string message;  // why it failed or stops
};

}  // namespace muster::fleet
