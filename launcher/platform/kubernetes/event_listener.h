// EventListener: reads the events of a run on a cluster, again and again where the stream is cut, with its status as progress in
// between; looks at what runs the coordinator when that does not answer. What it finds out goes to a FollowCore through an inbox.
//
// Threading: Listen() blocks its thread until it is stopped; the inbox is safe from any thread. Ownership: run and inbox outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "launcher/platform/kubernetes/follow_core.h"
#include "launcher/platform/kubernetes/remote_run.h"
#include "launcher/process/signals.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::kubernetes {

// What is new, to be told to the core on its thread, in order.
using News = std::function<FollowCore::Actions(FollowCore&)>;

class Inbox {
 public:
  // Errors: kResourceExhausted (no descriptor left).
  static Result<std::unique_ptr<Inbox>> Create();

  void Put(News news);
  std::deque<News> Take();
  int fd() const { return wake_.fd(); }  // readable when there is something to take

 private:
  explicit Inbox(WakeFd wake) : wake_(std::move(wake)) {}

  WakeFd wake_;
  std::mutex mutex_;
  std::deque<News> news_;  // guarded by mutex_
};

class EventListener {
 public:
  // Begins after event `after`. `keep_status` gets each status that is heard, on the listening thread.
  EventListener(const RemoteRun& run, uint64_t after, Inbox& inbox,
                std::function<void(const std::string&)> keep_status)
      : run_(run), last_(after), inbox_(inbox), keep_status_(std::move(keep_status)) {}

  // Returns when the `finished` object has come, or when `stop` is requested.
  void Listen(const std::stop_token& stop);

 private:
  Status ReadEvents(const std::stop_token& stop);
  void TakeLines(std::string* text, const std::stop_token& stop);
  // Waits `time` at most. Returns how long to leave the coordinator in peace.
  Duration AskStatus(const std::stop_token& stop, Duration time);
  void Look(const std::stop_token& stop);

  const RemoteRun& run_;
  uint64_t last_;
  Inbox& inbox_;
  const std::function<void(const std::string&)> keep_status_;
  bool open_ = false;
  bool finished_ = false;
};

}  // namespace muster::kubernetes
