// Shipping: which files of this machine a job needs, and what is said of sending them to a cluster.
//
// Threading: none.
#pragma once

#include <string>
#include <vector>

#include "launcher/bundle/local_bundle.h"
#include "launcher/verbs/request.h"
#include "runtime/base/status.h"

namespace muster {

// `files` of the job file and --send of the command line. They count from where they are named, and land at the same place below the
// folder in which the program starts. Errors: kInvalidArgument naming each one that is not there or, for a cluster, would land outside.
Result<std::vector<BundleSource>> PlanFiles(const Request& request, bool for_cluster);

// Where a program of this machine lands below that folder: "bin/digits".
std::string ProgramPath(const std::filesystem::path& program);

// "digits and 2 files, 14.2 MiB".
std::string WhatIsSent(const LocalBundle& bundle);

}  // namespace muster
