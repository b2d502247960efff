// State sync: what happens when a generation is entered. The members tell each other what they hold, agree on who catches up from
// whom (core/recovery.h), and do it over the new communicator.
//
// Pages travel from all members that hold the target state to each member that needs them, a bounded number at a time,
// each with its XXH3-128. A member keeps the pages it has: when a donor dies, the next generation sends only the rest.
//
// Threading: one thread; every member of the generation calls SyncState.
#pragma once

#include <functional>
#include <string>

#include "collectives/communicator.h"
#include "runtime/base/status.h"
#include "runtime/train/step_engine.h"

namespace muster {

struct Holding {
  bool has_state = false;  // the engine's state is whole
  bool done = false;       // training has ended here
};

struct SyncOutcome {
  uint64_t pages_received = 0;
  bool redone = false;  // caught up by applying a peer's vote outcome
};

// Brings this member to the state that the generation goes on from; `holding` is updated as it changes. `restore` fills the
// state when nobody holds one (called on rank 0). Errors: those of Communicator (the generation is dead); kInvalidArgument
// (the members run different programs), kDataLoss (a page arrived damaged), and those of `restore`.
Result<SyncOutcome> SyncState(Communicator& communicator, StepEngine& engine, Holding& holding,
                              const std::function<Status()>& restore);

}  // namespace muster
