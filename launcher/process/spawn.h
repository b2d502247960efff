// Spawn: starts a program as a child that cannot outlive us.
//
// Threading: call it from the main thread only: the kernel sends the death signal when the *thread*
// that forked ends. Safe while other threads (gRPC's) run: between fork and exec only
// async-signal-safe calls are made, and no fork handler runs.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

struct SpawnSpec {
  std::filesystem::path executable;
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // all of it, "NAME=value"
  std::filesystem::path cwd;             // empty: ours
  // Not owned; -1 is /dev/null. Every other descriptor of ours is closed in the child.
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  int death_signal = SIGKILL;  // what the child gets when we die
  bool low_priority = false;   // kLowPriority
};

// The child runs in a process group of its own, with default signal handlers and an empty mask.
// Returns its pid once the program is executing; blocks for the fork and exec only. Errors:
// kNotFound (no such file), kPermissionDenied, kInvalidArgument (not a program: ENOEXEC),
// kInternal, with the system's reason.
Result<pid_t> Spawn(const SpawnSpec& spec);

// The file of this program, to start it again. Where it was replaced meanwhile (a rebuild), the image that runs.
std::filesystem::path OwnExecutable();

// "exit code 3" or "signal 9 (Killed)" for a status of waitpid().
std::string DescribeExit(int wait_status);

// The name of a signal with its meaning: "SIGSEGV (Segmentation fault)".
std::string SignalName(int signal);

}  // namespace muster
