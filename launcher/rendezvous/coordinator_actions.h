// What the coordinator wants done. Actions are carried out in order, and a Persist is durable before the next one.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/rendezvous/coordinator_state.h"
#include "launcher/rendezvous/job_status.h"
#include "runtime/core/protocol.h"

namespace muster {

struct Persist {
  CoordinatorState state;
};  // durable before the next action
struct SendOrder {
  std::string worker;
  uint64_t incarnation = 0;
  Order order;
};
struct SendAgent {
  enum class Kind { kRestartWorker, kShutDown, kShutDownNow };
  std::string slot;
  Kind kind = Kind::kShutDown;
  std::string reason;
};
struct SetSlots {
  std::vector<std::string> slots;
};

// What a membership change was and cost; times in milliseconds, -1 where unknown.
struct MembershipChange {
  std::string cause;
  std::vector<std::string> members_before;
  std::vector<std::string> members_after;
  uint64_t step = 0;
  double detect_ms = 0;   // first sign (for a silent worker: its last sign of life) -> known
  double agree_ms = 0;    // known -> order sent
  double connect_ms = 0;  // order -> communicator built, slowest member
  double state_ms = 0;    // redo and state transfer, slowest member
  double resume_ms = 0;   // first step, slowest member
  int steps_redone = 0;
};

struct EmitEvent {
  std::string
      kind;  // "membership", "worker-lost", "worker-exited", "join", "resize", "stop", "checkpoint", "finished", ...
  uint64_t generation = 0;
  std::string message;
  std::optional<MembershipChange> change;
};

struct FinishJob {
  Phase phase = Phase::kFailed;
  int exit_code = 1;
  std::string message;
  std::optional<RunResult> result;
  std::string failed_worker;  // for the summary of a failure
  std::string last_output;
};

using CoordinatorAction =
    std::variant<Persist, SendOrder, SendAgent, SetSlots, EmitEvent, FinishJob>;

}  // namespace muster
