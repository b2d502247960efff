// ControlLine: a worker's line to its coordinator, as the membership shell sees it. The gRPC one is rpc/coordinator_link.h; tests
// bring one that talks to a coordinator core in the same process.
//
// Threading: safe from any thread; orders arrive one at a time on a thread of the line's own.
#pragma once

#include <functional>
#include <memory>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/core/protocol.h"

namespace muster {

class ControlLine {
 public:
  virtual ~ControlLine() = default;
  // Queues a report; does not block. Reports other than kProgress arrive in order, or the line logs why not.
  virtual void Send(const Report& report) = 0;
  // Registers again with a fresh Hello.
  virtual void SayHello() = 0;
  // Waits until queued reports have been taken. Errors: kDeadlineExceeded.
  virtual Status Flush(TimePoint deadline) = 0;
};

// What a line asks its owner for, and tells it.
struct ControlLineCallbacks {
  std::function<Hello()> hello;
  std::function<Report()> progress;  // the heartbeat, asked for every 100 ms
  std::function<void(const Order&)> order;
};

using ControlLineFactory = std::function<std::unique_ptr<ControlLine>(ControlLineCallbacks)>;

}  // namespace muster
