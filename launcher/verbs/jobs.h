// Jobs: which job an operator means, and what the verbs that look at jobs do.
//
// Threading: none.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "launcher/job/store.h"
#include "launcher/verbs/verb.h"

namespace muster {

Result<JobStore> OpenStore();

// The job that `operands` names. With none: the one that is running, if it is exactly one, else the newest if `or_newest`.
// Errors: kNotFound with the jobs there are, kInvalidArgument when it is not clear which one is meant.
Result<std::string> FindJob(const JobStore& store, const std::vector<std::string>& operands,
                            bool or_newest);

// The ids of the workers that have these ranks in a status object of `job`. Errors: kInvalidArgument naming the rank, with `example`
// as how to name workers instead.
Result<std::set<std::string>> WorkersOfRanks(const std::vector<int>& ranks,
                                             const nlohmann::json& status, const std::string& job,
                                             const std::string& example);

Result<int> ListJobs(const Invocation& invocation);
Result<int> ShowStatus(const Invocation& invocation);
Result<int> ShowTop(const Invocation& invocation);
Result<int> ShowEvents(const Invocation& invocation);
Result<int> ShowLogs(const Invocation& invocation);
Result<int> ResizeJob(const Invocation& invocation);
Result<int> StopJob(const Invocation& invocation);
Result<int> RunDoctor(const Invocation& invocation);
Result<int> ProveLedger(const Invocation& invocation);
Result<int> ShowVersion(const Invocation& invocation);

}  // namespace muster
