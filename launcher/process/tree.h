// Tree: finds and kills every descendant of this process, also those that have left their group or
// session.
//
// It relies on BecomeSubreaper(): an orphaned descendant becomes our child instead of init's, so
// that nobody gets away.
//
// Threading: free functions; only one thread may reap (waitpid) at a time.
#pragma once

#include <sys/types.h>

#include <functional>
#include <set>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster {

// Orphaned descendants of ours become our children from now on.
Status BecomeSubreaper();

// All living descendants of `root`, without `root` itself and without the trees of `spared`.
std::vector<pid_t> Descendants(pid_t root, const std::set<pid_t>& spared = {});

// Called with the pid and wait status of each child that is reaped.
using OnReaped = std::function<void(pid_t pid, int wait_status)>;

// Reaps every child that has ended; does not block.
void ReapEnded(const OnReaped& on_reaped);

// Sends SIGKILL to all our descendants, without the trees of `spared`, again and again until none
// is left or `deadline` has passed, and reaps them. Returns those that could not be killed (in
// uninterruptible sleep).
std::vector<pid_t> KillDescendants(const std::set<pid_t>& spared, TimePoint deadline,
                                   const OnReaped& on_reaped);

// True while a process `pid` exists and is not a zombie.
bool IsAlive(pid_t pid);

}  // namespace muster
