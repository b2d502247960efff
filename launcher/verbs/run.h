// Run: the plan of `launcher run`, made from its options before anything is started.
//
// Threading: none.
#pragma once

#include "launcher/job/job.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

// A complete job, without id, supervisor and time. Errors: kInvalidArgument or kUnimplemented naming flag, value and what is
// allowed; those of FindProgram.
Result<JobSpec> PlanJob(const Invocation& invocation);

// The body of `launcher run`.
Result<int> RunJob(const Invocation& invocation);

}  // namespace muster
