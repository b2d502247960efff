// RendezvousService: the gRPC server of a coordinator (runtime/proto/muster.proto). It checks who calls and what they send,
// turns messages into events for JobControl, and keeps the streams through which orders, slots and events go out.
//
// Every call must carry the job's id and secret. A worker's stream replaces its former one; a process with an older
// incarnation than the newest known of its worker is refused (FAILED_PRECONDITION), and a report from one that has not joined
// this coordinator yet must be repeated (UNAVAILABLE).
//
// Threading: all methods are safe from any thread. Calls are answered on gRPC's threads.
// Ownership: `control` must outlive the service; it is not called any more once Shutdown has returned.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "launcher/rendezvous/job_control.h"
#include "runtime/base/time.h"

namespace muster {

class BundleHub;

struct ServiceOptions {
  std::string job;                    // id that calls must carry
  std::string secret;                 // that calls must carry
  std::string job_text;               // what Describe answers
  std::string address = "127.0.0.1";  // IP address to listen on
  int port = 0;                       // 0: any free one
  bool or_any_port = true;            // if `port` is taken
  BundleHub* bundle = nullptr;  // what agents fetch; outlives the service. Null: the job has none
  std::map<std::string, uint64_t> incarnations;  // newest known process of each worker
};

class RendezvousService final : public JobOutlet {
 public:
  static constexpr size_t kMaxQueuedOrders = 4'096;  // waiting in one stream
  static constexpr size_t kMaxWorkers = 4'096;       // and as many agents
  static constexpr size_t kMaxWatchers = 64;         // of events, and as many of slots

  // Listens when it returns. Errors: kUnavailable if no port can be had.
  static Result<std::unique_ptr<RendezvousService>> Create(const ServiceOptions& options,
                                                           JobControl& control);
  ~RendezvousService() override;

  int port() const;

  void Send(const SendOrder& order) override;
  void Send(const SendAgent& order) override;
  void Send(const SetSlots& slots) override;
  void EventsChanged() override;
  void Progress(const std::string& json) override;
  void Finished(const std::string& json) override;

  // Waits until no stream is open any more; false if some are at the deadline.
  bool WaitUntilQuiet(TimePoint deadline);

  // Ends all calls and stops listening. Blocks until every handler has returned: each event that was submitted must have had its
  // `done` by then.
  void Shutdown();

 private:
  class Impl;
  explicit RendezvousService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
