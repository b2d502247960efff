#include "launcher/rendezvous/coordinator_server.h"

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"

namespace muster {

namespace {

// The step in the status.json that a former coordinator has left; 0 if there is none.
uint64_t StepInStatus(const JobFolder& folder) {
  const auto text = ReadFile(folder.status(), 1 << 20);
  const auto status = nlohmann::json::parse(text.value_or(""), nullptr, false);
  return status.is_object() ? status.value("step", uint64_t{0}) : 0;
}

}  // namespace

ServerOptions ServerOptionsOf(const JobSpec& spec, const JobFolder& folder,
                              const std::string& platform, const std::string& secret) {
  CoordinatorOptions coordinator;
  coordinator.job = spec.name;
  coordinator.known_step = StepInStatus(folder);
  coordinator.min_workers = spec.min_workers;
  coordinator.max_workers = spec.max_workers;
  coordinator.heartbeat_timeout = std::chrono::milliseconds(spec.heartbeat_timeout_ms);
  coordinator.step_timeout = std::chrono::milliseconds(spec.step_timeout_ms);
  coordinator.start_timeout = std::chrono::milliseconds(spec.start_timeout_ms);
  const WallTime created(std::chrono::milliseconds(spec.created_ms));
  ServerOptions options{.shell = {{spec.name, platform}, coordinator, folder, created}};
  options.service.job = spec.id;
  options.service.secret = secret;
  options.service.job_text = spec.ToJson();
  options.bundle = spec.bundle;
  return options;
}

Result<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Create(const ServerOptions& options,
                                                                     StateStore& store) {
  std::unique_ptr<CoordinatorServer> server(new CoordinatorServer(options, store));
  ServiceOptions service = options.service;
  service.incarnations = NewestIncarnations(store.state());
  if (!options.bundle.empty()) {
    CoordinatorShell& shell = server->shell_;
    BundleHubOptions bundle{.job = service.job,
                            .secret = service.secret,
                            .bundle = options.bundle,
                            .folder = options.shell.folder.root() / "chunks"};
    bundle.note = [&shell](const std::string& sentence) {
      shell.Submit(PlatformNoted{"program", sentence}, {}, {});
    };
    MUSTER_ASSIGN(server->bundle_, BundleHub::Create(std::move(bundle)));
    service.bundle = server->bundle_.get();
  }
  MUSTER_ASSIGN(server->service_, RendezvousService::Create(service, server->shell_));
  if (!options.gateway) return server;
  GatewayOptions gateway;
  gateway.address = options.gateway->address;
  gateway.port = options.gateway->port;
  gateway.secret = options.service.secret;
  auto created = JobGateway::Create(gateway, options.shell.folder, server->shell_,
                                    *server->service_, server->bundle_.get());
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
