// WorkerRecord: what the coordinator knows of the worker of one slot.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/time.h"
#include "runtime/core/protocol.h"

namespace muster {

struct WorkerRecord {
  Hello hello;
  bool connected = false;       // its order stream is open
  bool registered = false;      // this incarnation has said hello
  bool awaited = false;         // a member that a restored coordinator has not heard of yet
  bool told_to_rejoin = false;  // it reports although it was given up
  bool evicted = false;         // until it says hello again as a joiner
  bool hung = false;            // evicted because its step did not end
  bool restart_sent = false;    // the agent was told to kill and restart it
  bool waiting = false;
  TimePoint last_seen{};
  TimePoint evicted_at{};
  TimePoint busy_since{};     // computing since then; meaningful while not waiting
  TimePoint waiting_since{};  // for the others in this step; meaningful while waiting
  uint64_t incarnation = 0;   // newest known
  uint64_t generation = 0;    // it is active in
  uint64_t prepared = 0;
  uint64_t revoked = 0;  // highest generation it has reported dead
  uint64_t step = 0;
  bool has_state = false;
  double step_seconds = 0;
  int64_t pid = 0;
  bool running = false;     // the agent says the process exists
  uint64_t member_as = 0;   // newest incarnation that was a member of an active generation
  uint64_t crashed_at = 0;  // the job's highest step when it crashed last
  int exits = 0;            // in a row without committing a step after that one
  int kills = 0;
  std::string lost_by;  // peer that reported losing it
  // Since a generation could not be connected because of it, it may not join for so long, until then.
  Duration bar{};
  TimePoint barred_until{};
  bool slot_failed = false;  // crash loop: not restarted any more
};

}  // namespace muster
