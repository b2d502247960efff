// FleetSetup: the pods of a run in the words of FleetCore, and the slots in them. Pure.
//
// Threading: pure functions and a plain value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/platform/kubernetes/fleet_options.h"
#include "launcher/platform/kubernetes/objects.h"

namespace muster::kubernetes {

// The pods of each pool for a number of workers that the user asks for (SpreadOverPools). The pools of the job file are as large as it
// says at most; where it has none, the one pool may become as large as a job can be.
std::map<std::string, WorkerRange> PodsFor(const ClusterRun& run, WorkerRange workers);

// As the job file says, or for another number of workers.
fleet::FleetOptions FleetOptionsOf(const ClusterRun& run,
                                   std::optional<WorkerRange> workers = std::nullopt);

// Which pods and slots belong together.
class PodSlots {
 public:
  explicit PodSlots(const ClusterRun& run);

  // Empty if it is no pod of a pool of the run.
  std::vector<std::string> OfPod(const std::string& pod) const;
  std::vector<std::string> OfPod(const std::string& pool, int64_t serial) const;
  // The pod of that slot; empty if it is no slot of the run.
  std::string PodOf(const std::string& slot) const;

 private:
  struct PoolNames {
    std::string pods;  // "PREFIX-POOL-", what its pods begin with
    std::string name;
    int devices = 1;
  };
  std::vector<PoolNames> pools_;
};

}  // namespace muster::kubernetes
