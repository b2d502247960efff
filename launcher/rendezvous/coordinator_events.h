// What happens to a job, as the coordinator hears of it: from workers, from their agents, from operators, and the passing of time.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "runtime/core/protocol.h"

namespace muster {

struct WorkerHello {
  Hello hello;
};
struct WorkerStreamLost {
  std::string worker;
  uint64_t incarnation = 0;
};
struct WorkerReported {
  Report report;
};
struct AgentAttached {
  std::string slot;
};
struct AgentAlive {
  std::string slot;
};
struct WorkerStarted {
  std::string slot;
  uint64_t incarnation = 0;
  int64_t pid = 0;
};
struct WorkerExited {
  std::string slot;
  uint64_t incarnation = 0;
  int exit_code = 0;  // -1: by `signal`
  int signal = 0;
  std::string last_output;
  std::string error;  // why it could not be started
};
struct SlotExited {
  std::string slot;
  int exit_code = 0;
  int signal = 0;
};  // the agent itself died
struct ResizeRequested {
  int min_workers = 1;
  int max_workers = 1;
};
struct StopRequested {
  bool now = false;
  std::string reason;
};
struct Tick {};

using CoordinatorEvent =
    std::variant<WorkerHello, WorkerStreamLost, WorkerReported, AgentAttached, AgentAlive,
                 WorkerStarted, WorkerExited, SlotExited, ResizeRequested, StopRequested, Tick>;

}  // namespace muster
