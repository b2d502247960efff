// Subprocess: runs a program to its end and keeps what it printed. No shell is involved.
//
// Threading: safe from any thread. Blocks until the program ended or the deadline came; the program and whatever it started in
// its process group are gone on return.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::k8s {

struct Subprocess {
  std::string command;               // a name is looked up in our PATH, a path is used as it is
  std::vector<std::string> args;     // without the program's name
  std::vector<std::string> changes;  // "NAME=value", replaced in or added to our environment
  // Gets our stdin and stderr and our process group, so that it can ask the user. Otherwise /dev/null, and its stderr is kept.
  bool interactive = false;
  size_t max_output_bytes = size_t{1} << 20;
  TimePoint deadline;
};

struct SubprocessResult {
  int exit_code = 0;  // -1 after a signal
  int signal = 0;
  std::string output;
  std::string errors;  // the end of stderr, at most some KiB
};

// Errors: kNotFound (no such program), kPermissionDenied, kDeadlineExceeded, kResourceExhausted (it printed more than
// `max_output_bytes`), kInternal. Its output is in none of them: it may be a secret.
Result<SubprocessResult> RunSubprocess(const Subprocess& subprocess);

}  // namespace muster::k8s
