// What happens to a job, as the coordinator hears of it: from workers, from their agents, from operators, and the passing of time.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

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
// The agent itself died, or what it ran in.
struct SlotExited {
  std::string slot;
  int exit_code = 0;
  int signal = 0;
  std::string reason;  // a sentence; empty: made from the other two
};
// The slots that the platform has now (CoordinatorOptions::slots_from_platform). One that is left out is going: the generation
// without it is prepared, then it is let go.
struct SlotsOffered {
  std::vector<std::string> slots;
  std::map<std::string, std::string> leaving;  // of those left out, for as long as they exist: why
};
// Something that operators should see among the events.
struct PlatformNoted {
  std::string kind;
  std::string message;
};
// The platform can do no more for this job.
struct PlatformFailed {
  int exit_code = 4;
  std::string message;
};
struct ResizeRequested {
  int min_workers = 1;
  int max_workers = 1;
};
struct StopRequested {
  bool now = false;
  std::string reason;
};
// What was decided cannot be made durable for now, or it takes long: nothing more is decided until it can.
struct RecordAway {};
struct RecordBack {};
struct Tick {};

using CoordinatorEvent =
    std::variant<WorkerHello, WorkerStreamLost, WorkerReported, AgentAttached, AgentAlive,
                 WorkerStarted, WorkerExited, SlotExited, SlotsOffered, PlatformNoted,
                 PlatformFailed, ResizeRequested, StopRequested, RecordAway, RecordBack, Tick>;

}  // namespace muster
