// Agent: looks after the worker of one slot: starts it, restarts it when it crashes, keeps its output, and leaves nothing of
// it behind, however the agent itself ends (see RunAgent).
//
// Threading: RunAgent must be called on the main thread of a process without other threads.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/base/status.h"

namespace muster {

// The body of `launcher agent`. Starts the worker at once, then attaches to the coordinator. Returns the exit code: 0 when the
// coordinator told it to shut down, 128 + signal after SIGTERM, SIGINT or SIGHUP (it kills the worker's tree first). When
// the agent itself is killed the worker dies with it, and the supervisor, a subreaper, kills what the worker has left.
// Errors: kNotFound or kInvalidArgument for a bad job folder or slot.
Result<int> RunAgent(const std::filesystem::path& job_folder, const std::string& slot);

}  // namespace muster
