// Failpoints: named places in the code at which a test makes a process crash, stall or fail.
//
//   MUSTER_FAILPOINTS=NAME=ACTION[@N][,NAME=ACTION[@N]...]   ACTION: crash, fail, stall:SECONDS; N: at the Nth pass of a process
//   MUSTER_FAILPOINT_MARKS=FOLDER                            where each that acts leaves a file of its name
//
// Each acts once in a whole job: whoever makes its file. What is not understood ends the process with a message, so that no test passes
// because of a typing error. Without the variables a pass costs a call that looks whether they are set, once read.
//
// Threading: safe from any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string_view>

#include "runtime/base/status.h"

namespace muster {

inline constexpr std::string_view kFailpoints[] = {
    "order.received",      // a worker has an order, and has done nothing about it yet
    "build.started",       // the communicator of the next generation is to be connected
    "build.ended",         // it is connected, and nobody knows
    "join.introduced",     // in a planned generation, who gives and who joins is known
    "join.round_sent",     // a member is about to send strips or records to those who join
    "join.round_applied",  // a joiner has applied them, and nobody knows
    "enter.started",       // the trainer has taken it
    "enter.ended",         // all are there and hold the same state
    "sync.entries",        // what all hold is known
    "sync.redo",           // the outcome of the last vote has been received, and is not applied
    "sync.page_sent",      // a donor is about to send pages
    "sync.page_received",  // a joiner has pages that it does not count as its own yet
    "step.computed",       // the share is computed
    "step.reduced",        // the sums are there, the vote is not
    "step.voted",          // the outcome is there and not applied
    "step.applied",        // the step is committed
    "switch.decided",      // all have voted for the next generation
    "finish.started",      // the last step is committed, nobody has been told
    "checkpoint.write",    // some of it is written
    "checkpoint.sync",     // all of it is written
    "checkpoint.rename",   // it is durable, without its name
    "checkpoint.renamed",  // it has its name
    "journal.write",       // the coordinator has decided
    "journal.sync",        // and written it
    "journal.written",     // and it is durable, and nobody has heard of it
    "agent.spawned",       // an agent has started its worker, and nobody has heard of it
};

// The name of one of them; another one does not compile.
class FailpointName {
 public:
  consteval FailpointName(const char* name)  // NOLINT(google-explicit-constructor): it is a literal
      : index_(static_cast<size_t>(std::ranges::find(kFailpoints, std::string_view(name)) -
                                   std::begin(kFailpoints))) {
    if (index_ == std::size(kFailpoints)) throw "this is not in kFailpoints";
  }
  size_t index() const { return index_; }

 private:
  size_t index_;
};

// A pass. Error kInternal if it is to fail; where nothing can fail, that is ignored.
Status Failpoint(FailpointName name);

}  // namespace muster
