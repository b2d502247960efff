// What FleetCore wants done. Actions are carried out in order, and a Persist is durable before the next one.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/base/time.h"

namespace muster::fleet {

// What a coordinator that is started again must know of what the one before it did.
struct FleetSaved {
  std::map<std::string, int64_t> serials;  // by pool: no higher one has been given out
  bool started = false;                    // a first ring has been formed
  int gang_failures = 0;                   // starts in a row that were given up
  bool operator==(const FleetSaved&) const = default;
};

struct Persist {
  FleetSaved saved;
};
// Answer with CreateAnswered. Never sent twice for one name, so a POST that is repeated below may take "it exists and is ours" as a
// success.
struct CreatePod {
  std::string pool;
  int64_t serial = 0;
  std::string name;
};
// With the uid as precondition. Answer with DeleteAnswered. May be sent again.
struct DeletePod {
  std::string name;
  std::string uid;
  std::string reason;
  std::optional<Duration> grace;  // none: the pod's own
};
// Answer with PodsListed. Asked again if no list comes.
struct ListPods {
  std::string reason;
};
// That pod will go soon: prepare the generation without its workers. Once for each pod at most.
struct Notice {
  std::string pod;
  std::string reason;
};
// That pod runs no more. Once for each pod at most.
struct PodLost {
  std::string pod;
  std::string reason;
  std::optional<int> exit_code;
  int signal = 0;
};
// For `launcher events`.
struct Emit {
  std::string
      kind;  // "fleet-grow", "fleet-shrink", "fleet-start", "fleet-withdraw", "fleet-crash-loop", "fleet-list"
  std::string message;
};
// For `launcher status`: why that pod does not run yet; empty: it does, or is gone.
struct Explain {
  std::string pod;
  std::string sentence;
};
// Once at most. The pods go by themselves.
struct FailJob {
  int exit_code = 4;
  std::string message;
};

using FleetAction =
    std::variant<Persist, CreatePod, DeletePod, ListPods, Notice, PodLost, Emit, Explain, FailJob>;

struct FleetDecision {
  std::vector<FleetAction> actions;
  std::string reason;  // what was decided and why; empty: nothing
};

}  // namespace muster::fleet
