// What members and joiners of a planned generation say to each other on its communicator before anybody enters it.
//
// First all introduce themselves. Then every donor (a member that trains) sends rounds to every joiner, one after each outcome that it
// has applied: the outcome, the sums of the strips that it has sent before, and more strips; each joiner answers when it has
// applied it. Donor i of n gives the strips i, i + n, i + 2n, ..., and brings them up to date.
//
// Threading: plain values. Both sides check what they read.
#pragma once

#include <cstdint>

#include "runtime/state/state.h"

namespace muster {

struct Introduction {
  uint64_t program = 0;    // StepEngine::program_hash
  uint64_t trains_in = 0;  // the generation it takes steps in; 0: it joins
};

struct RoundHeader {
  enum Kind : uint32_t {
    kRecord = 1,  // more will follow
    kLast,        // the members have switched after this one
    kPlain,    // nothing comes along and nothing follows: the joiner gets the state when it is in
    kTooSlow,  // the same, because this joiner has fallen behind
  };
  uint32_t kind = kRecord;
  uint32_t applied = 0;   // StepEngine::Applied
  uint64_t step = 0;      // whose outcome it is
  uint64_t position = 0;  // of the state after it
  double scale = 1;
  uint64_t updated =
      0;  // of the strips sent before; their sums come along if the outcome is a commit
  uint64_t added = 0;  // strips that come along, as they are at `position`
  double step_seconds = 0;
  StateHeader state;

  // Nothing comes along, and no answer is expected.
  bool is_empty() const { return kind == kPlain || kind == kTooSlow; }
};

}  // namespace muster
