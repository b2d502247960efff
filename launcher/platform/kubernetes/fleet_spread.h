// SpreadOverPools: how many pods each pool should have, for a number of workers that the user asks for.
//
// Threading: a pure function.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/jobfile/job_file.h"

namespace muster::fleet {

// `workers` spread over `pools` in their order, in pods. Each pool first gets its own minimum as far as the total allows, then, in
// the order of the pools, as much as it may have. A pool never gets more than its maximum, and only whole pods: what is left over
// is left out of the maximum, and rounds the minimum up where a pool has room. A pool of growth `opportunistic` has minimum 0: its
// pods never count towards the job's.
std::map<std::string, WorkerRange> SpreadOverPools(const std::vector<Pool>& pools,
                                                   WorkerRange workers);

}  // namespace muster::fleet
