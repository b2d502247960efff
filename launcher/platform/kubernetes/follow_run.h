// FollowRun: stays with a run on a cluster until its end, sends it its files, tells an observer what happens, and clears up. The shell of
// FollowCore.
//
// Threading: on the main thread; threads of its own speak to the cluster. The observer is called on the main thread.
#pragma once

#include <string>
#include <vector>

#include "launcher/bundle/local_bundle.h"
#include "launcher/job/outcome.h"
#include "launcher/platform/kubernetes/remote_run.h"
#include "launcher/process/signals.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

struct FollowOutcome {
  bool detached = false;  // the run goes on; the rest but the exit code says nothing
  std::string finished;   // the `finished` object: the coordinator's, or ours if there is none
  int exit_code = 1;      // for `launcher run`
  std::vector<std::string> left;  // "pod x": what was still there in the end
};

// What a run needs of this machine.
struct Sending {
  const LocalBundle* bundle = nullptr;  // null: nothing
  std::string what;                     // for people: "digits, 14.2 MiB"
  bool detach = false;                  // follow the run only until it has it
};

// Blocks until the run has ended and nothing of it is left, or the user does not want to wait. The end is kept in `folder`. Signals as
// FollowCore has them. Errors: kResourceExhausted (no descriptor left).
Result<FollowOutcome> FollowRun(const RemoteRun& run, const JobFolder& folder,
                                JobObserver& observer, const SignalFd& signals,
                                const Sending& sending);

// Waits until the workers' pods of a run that has ended are gone, at most `time`: that of their grace, and then some. Its coordinator
// sees to that: it tells those that do not know yet, and after the deletion of the run it could not any more.
void AwaitWorkers(const RemoteRun& run, const std::stop_token& stop = {},
                  Duration time = std::chrono::seconds(45));

// Deletes the run and waits until nothing of it is left, at most some 90 s: pods have their grace. Returns what is still there, or
// why that cannot be told. Ends early when `stop` is requested.
std::vector<std::string> ClearRun(const RemoteRun& run, const std::stop_token& stop = {});

}  // namespace muster::kubernetes
