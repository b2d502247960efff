// Doctor: what `launcher doctor` finds out, and how it says so.
//
// Threading: none.
#pragma once

#include <string>
#include <vector>

#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

struct Finding {
  std::string what;
  bool ok = false;
  std::string detail;
};

// Whether jobs can be kept on this machine.
Finding CheckHome();

// Prints them; 0 if all are ok, else `exit_code`.
int ReportFindings(const Invocation& invocation, const std::vector<Finding>& findings,
                   int exit_code = 2);

// `launcher doctor --platform kubernetes`. Errors: those of ChooseTarget.
Result<int> RunClusterDoctor(const Invocation& invocation);

}  // namespace muster
