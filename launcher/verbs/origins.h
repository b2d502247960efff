// Origins: where each value of a job comes from, for people who wonder why it is what it is.
//
// Threading: pure functions.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/verbs/request.h"

namespace muster {

struct Origin {
  std::string key;        // as a job file calls it: "checkpoint.every_steps"
  std::string value;      // what counts
  std::string from;       // "default", "--workers", "job.yaml:3:10"
  std::string overrides;  // what the file says where a flag won; else empty
};

// One for each value of `spec` that a flag or a file may give, and for `platform`, in the order of the schema. Call it while
// `spec.name` is what was asked for.
std::vector<Origin> Origins(const Request& request, const JobSpec& spec,
                            const std::string& platform);

}  // namespace muster
