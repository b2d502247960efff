#include "launcher/rendezvous/coordinator_server.h"

namespace muster {

CoordinatorOptions OptionsOf(const JobSpec& spec) {
  CoordinatorOptions options;
  options.job = spec.name;
  options.min_workers = spec.min_workers;
  options.max_workers = spec.max_workers;
  options.heartbeat_timeout = std::chrono::milliseconds(spec.heartbeat_timeout_ms);
  options.step_timeout = std::chrono::milliseconds(spec.step_timeout_ms);
  options.start_timeout = std::chrono::milliseconds(spec.start_timeout_ms);
  return options;
}

Result<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Create(const ServerOptions& options,
                                                                     StateStore& store) {
  std::unique_ptr<CoordinatorServer> server(new CoordinatorServer(options, store));
  ServiceOptions service = options.service;
  service.incarnations = NewestIncarnations(store.state());
  MUSTER_ASSIGN(server->service_, RendezvousService::Create(service, server->shell_));
  if (!options.gateway) return server;
  GatewayOptions gateway;
  gateway.address = options.gateway->address;
  gateway.port = options.gateway->port;
  gateway.secret = options.service.secret;
  auto created =
      JobGateway::Create(gateway, options.shell.folder, server->shell_, *server->service_);
  if (created) {
    server->gateway_ = std::move(*created);
    return server;
  }
  server->Start();  // calls may have come already and wait for the shell
  return tl::unexpected(created.error());
}

CoordinatorServer::~CoordinatorServer() { Stop(); }

void CoordinatorServer::Start() {
  shell_.Start(gateway_ ? static_cast<JobOutlet&>(*gateway_) : *service_);
  if (gateway_) gateway_->gateway().SetReady();
}

bool CoordinatorServer::WaitUntilQuiet(TimePoint deadline) {
  const bool quiet = !service_ || service_->WaitUntilQuiet(deadline);
  return (!gateway_ || gateway_->gateway().WaitUntilQuiet(deadline)) && quiet;
}

void CoordinatorServer::Stop() {
  // First the shell, so that every call that waits for it has its answer.
  shell_.Stop();
  if (gateway_) gateway_->gateway().Shutdown();
  if (service_) service_->Shutdown();
}

}  // namespace muster
