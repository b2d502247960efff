// Agent: looks after the worker of one slot: starts it, restarts it when it crashes, keeps its output, and leaves nothing of
// it behind, however the agent itself ends (see RunAgent).
//
// Threading: RunAgent must be called on the main thread of a process without other threads.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/base/status.h"

namespace muster {

// Where an agent's worker runs.
struct AgentPlace {
  std::string listen_address = "127.0.0.1";  // IP address at which the worker's peers reach it
  // A pod: the worker's output goes to our stdout, and SIGTERM is the notice that the pod goes soon (AgentCore::Drain).
  bool in_pod = false;
  // There are other agents in the same pod: each line of output says whose it is.
  bool has_neighbours = false;
  // "IP:PORT" where this process, or the one that has started it, serves the job's bundle; empty: nobody does.
  std::string shares_at;
};

// The body of `launcher agent`. Starts the worker at once, then attaches to the coordinator. Returns the exit code: 0 when the
// coordinator told it to shut down or it was drained, 128 + signal after SIGTERM, SIGINT or SIGHUP (it kills the worker's tree first;
// in a pod, after the second SIGTERM). When
// the agent itself is killed the worker dies with it, and the supervisor, a subreaper, kills what the worker has left.
// Errors: kNotFound or kInvalidArgument for a bad job folder or slot.
Result<int> RunAgent(const std::filesystem::path& job_folder, const std::string& slot,
                     const AgentPlace& place);

}  // namespace muster
