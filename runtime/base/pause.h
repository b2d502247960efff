// Pause: sleeping that a stop token ends.
//
// Threading: blocks the calling thread only.
#pragma once

#include <stop_token>

#include "runtime/base/time.h"

namespace muster {

// Sleeps for `time`. False if `stop` was requested, which ends it early.
bool PauseFor(Duration time, const std::stop_token& stop);

}  // namespace muster
