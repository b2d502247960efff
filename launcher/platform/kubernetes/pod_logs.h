// PodLogs: what the pods of a run print, many at once, line by line.
//
// Threading: one thread uses it; a thread for each pod reads. Ownership: the run outlives it.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "launcher/platform/kubernetes/remote_run.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

struct LoggingPod {
  std::string id;   // of its worker: "POOL-SERIAL"; "coordinator"
  std::string pod;  // its name
};

// The pods of a run that may have printed something: workers, and the youngest coordinator; in the order of their ids.
Result<std::vector<LoggingPod>> PodsWithLogs(const RemoteRun& run, const k8s::Call& call);

// A line of a log as the API server gives it with timestamps, taken apart. Pure.
struct TimedLine {
  std::string time;  // RFC 3339; empty if the line has none
  std::string text;
};
TimedLine SplitTime(std::string line);

struct LogLine {
  std::string
      id;  // of the worker; of its pod, where nobody else is in it or the line is no worker's
  std::string text;
};
// A line of the pod `pod`: where workers share one, each of theirs says whose it is, "[workers-7-1] text". Pure.
LogLine LineOf(const std::string& pod, std::string text);

// All lines that there are now, in the order of their times as far as they have some. `failed` gets a sentence for each pod whose log
// cannot be read. Blocks until all are read, some 30 s for each at most.
std::vector<LogLine> ReadLogs(const RemoteRun& run, const std::vector<LoggingPod>& pods,
                              std::vector<std::string>* failed);

// Follows logs until destroyed, which takes milliseconds.
class LogFollower {
 public:
  explicit LogFollower(const RemoteRun& run) : run_(run) {}
  ~LogFollower();
  LogFollower(const LogFollower&) = delete;
  LogFollower& operator=(const LogFollower&) = delete;

  // Begins to read the logs of those pods that are not being read yet, from their beginning.
  void Add(const std::vector<LoggingPod>& pods);

  // The lines that have come, at most some thousand; waits for some until `until`.
  std::vector<LogLine> Take(TimePoint until);

  // Whether every log has come to its end, as it does when its container has ended.
  bool AllEnded();

 private:
  void Read(const LoggingPod& pod, const std::stop_token& stop);
  void Put(LogLine line, const std::stop_token& stop);

  const RemoteRun& run_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<LogLine> lines_;                    // guarded by mutex_; bounded, readers wait
  size_t reading_ = 0;                           // guarded by mutex_
  std::map<std::string, std::jthread> readers_;  // by pod; last: they use the rest
};

}  // namespace muster::kubernetes
