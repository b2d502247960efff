// The seam between the wire and the job: JobControl is what the service calls, JobOutlet what the job calls back.
// service.h implements the outlet over gRPC, coordinator_shell.h the control over the coordinator core.
//
// Threading: every method of both is safe from any thread and waits for no network. A JobControl is never called with a lock of
// the outlet held; the outlet's methods take no lock of the job.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "launcher/rendezvous/coordinator.h"
#include "runtime/base/status.h"

namespace muster {

class JobControl {
 public:
  virtual ~JobControl() = default;

  // Called once, when everything that followed from the event has been carried out (what must be durable is), or with the
  // reason why it will not be: kUnavailable when the coordinator is going away.
  using Done = std::function<void(const Status&)>;
  // Asked at the moment the event would be handled; false drops it: something newer has overtaken it. Must not block.
  using Relevant = std::function<bool()>;

  // Hands an event to the core. `done` and `relevant` may be empty.
  virtual void Submit(CoordinatorEvent event, Done done, Relevant relevant) = 0;

  // Why a resize to min:max workers would be refused (kInvalidArgument), or nothing.
  virtual Status CheckResize(int min_workers, int max_workers) = 0;

  // The object of `launcher status -o json`.
  virtual std::string StatusText() = 0;

  // Stored events, see EventLog.
  virtual std::vector<std::string> ReadEvents(uint64_t from, size_t limit) = 0;
  virtual uint64_t NextEvent() = 0;
};

class JobOutlet {
 public:
  virtual ~JobOutlet() = default;

  // To the open stream of that worker or slot; without one the order is dropped: who comes back is told again.
  virtual void Send(const SendOrder& order) = 0;
  virtual void Send(const SendAgent& order) = 0;
  // To those who watch the slots, now and later.
  virtual void Send(const SetSlots& slots) = 0;

  // There are new events to read.
  virtual void EventsChanged() = 0;
  // A progress object for those who watch events; a slow watcher sees only the newest.
  virtual void Progress(const std::string& json) = 0;
  // The last object for them; then their streams end. Those of who watches the slots end with the next empty set.
  virtual void Finished(const std::string& json) = 0;
};

}  // namespace muster
