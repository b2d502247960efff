// StateStore: what keeps a coordinator's state beyond its own death: the journal on this machine (journal.h), the run's ConfigMap on
// Kubernetes (launcher/platform/kubernetes/cluster_store.h).
//
// Threading: one thread at a time.
#pragma once

#include <optional>

#include "launcher/rendezvous/coordinator_state.h"
#include "runtime/base/status.h"

namespace muster {

class StateStore {
 public:
  virtual ~StateStore() = default;

  // What was found, or was appended last.
  virtual const std::optional<CoordinatorState>& state() const = 0;

  // Durable when it returns. On an error the store holds what it held before and may be tried again; its hint says what to do about it.
  // Errors: kUnavailable (whatever keeps it is away, and will be back), kFailedPrecondition (it is another coordinator's by now),
  // others of the implementation.
  virtual Status Append(const CoordinatorState& state) = 0;
};

}  // namespace muster
