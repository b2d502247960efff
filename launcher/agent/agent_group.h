// AgentGroup: the agents of a pod with several workers, each a process of its own, as on any machine.
//
//   pod ---- agent workers-7-0 ---- its worker
//      \\--- agent workers-7-1 ---- its worker
//
// Threading: RunAgents must be called on the main thread; signals must be blocked in all other threads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launcher/agent/agent.h"
#include "runtime/base/status.h"

namespace muster {

// Runs an agent for each slot, and passes on to all of them what it is told by SIGTERM, SIGINT and SIGHUP. Returns when all have ended:
// 0, or the exit code of one that has not ended as it should; that one's end is the end of all, and of the pod, which is then replaced
// as a whole. Errors: those of starting a process.
Result<int> RunAgents(const std::filesystem::path& job_folder,
                      const std::vector<std::string>& slots, const AgentPlace& place);

}  // namespace muster
