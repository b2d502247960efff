// CoordinatorServer: a coordinator with all that serves it: core and shell, events, the gRPC service and, where one is asked for,
// the HTTP gateway. What keeps its state and who owns the process is the caller's.
//
// Threading: one thread uses it; control() may be used from any. Ownership: the store must outlive it. Invariant: whoever calls a
// service is answered or cut before the part that he waits for is gone.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "launcher/bundle/bundle_hub.h"
#include "launcher/rendezvous/coordinator_shell.h"
#include "launcher/rendezvous/job_gateway.h"
#include "launcher/rendezvous/service.h"

namespace muster {

struct ServerOptions {
  ShellOptions shell;
  ServiceOptions service;               // without `incarnations`: the store knows them
  std::optional<GatewayPlace> gateway;  // none: no HTTP
  std::string bundle;                   // hash of what agents fetch; empty: nothing
  uint64_t first_event = 1;             // the least number of an event
};

// What follows from the job, whatever the platform. The step that a former coordinator has shown in the folder's status.json is
// known to this one.
ServerOptions ServerOptionsOf(const JobSpec& spec, const JobFolder& folder,
                              const std::string& platform, const std::string& secret);

class CoordinatorServer {
 public:
  // Listens when it returns; calls wait until Start. Errors: kUnavailable if an address cannot be had.
  static Result<std::unique_ptr<CoordinatorServer>> Create(const ServerOptions& options,
                                                           StateStore& store);
  ~CoordinatorServer();

  JobControl& control() { return shell_; }
  int port() const { return service_->port(); }
  std::string gateway_place() const { return gateway_ ? gateway_->place() : ""; }

  // Begins to act. Once.
  void Start();

  // Waits until everybody who follows the job has heard its end; false if somebody has not by then.
  bool WaitUntilQuiet(TimePoint deadline);

  // Stops acting and listening.
  void Stop();

 private:
  CoordinatorServer(const ServerOptions& options, StateStore& store)
      : events_(options.shell.folder.events(), options.first_event),
        shell_(options.shell, store, events_) {}

  EventLog events_;
  CoordinatorShell shell_;
  std::unique_ptr<BundleHub> bundle_;
  std::unique_ptr<RendezvousService> service_;
  std::unique_ptr<JobGateway> gateway_;
};

}  // namespace muster
