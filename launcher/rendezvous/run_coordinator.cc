#include "launcher/rendezvous/run_coordinator.h"

#include <poll.h>

#include <algorithm>
#include <csignal>

#include "launcher/job/job.h"
#include "launcher/process/signals.h"
#include "launcher/rendezvous/coordinator_server.h"
#include "launcher/rendezvous/journal.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kGoodbye{2};  // for workers and agents to disconnect at the end

Result<ServerOptions> MakeOptions(const JobSpec& spec, const JobFolder& folder,
                                  const WakeFd& finished, int port) {
  MUSTER_ASSIGN(const std::string secret, folder.ReadSecret());
  ServerOptions options = ServerOptionsOf(spec, folder, "local", secret);
  options.shell.on_finished = [&finished](const std::string&) { finished.Notify(); };
  options.service.port = port;
  const Result<GatewayPlace> place = folder.ReadGateway();
  if (place) options.gateway = *place;
  if (!place && place.error().code != Code::kNotFound) return tl::unexpected(place.error());
  return options;
}

// Waits for the end of the job or SIGTERM; returns whether the job has ended.
bool WaitForEnd(const SignalFd& signals, const WakeFd& finished) {
  while (true) {
    pollfd waits[] = {{finished.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    ::poll(waits, 2, -1);  // the coordinator has no other deadline: the core's clock ticks on
    if (waits[0].revents != 0) return true;
    const std::vector<int> arrived = signals.Read();
    if (std::find(arrived.begin(), arrived.end(), SIGTERM) != arrived.end()) return false;
  }
}

Status Serve(const JobFolder& folder) {
  MUSTER_ASSIGN(const SignalFd signals, SignalFd::Create({SIGTERM, SIGINT, SIGHUP}));
  MUSTER_ASSIGN(const WakeFd finished, WakeFd::Create());
  MUSTER_ASSIGN(const JobSpec spec, folder.ReadSpec());
  MUSTER_ASSIGN(const std::unique_ptr<Journal> journal, Journal::Open(folder.journal()));
  MUSTER_ASSIGN(const ServerOptions options,
                MakeOptions(spec, folder, finished, journal->content().port));
  MUSTER_ASSIGN(const std::unique_ptr<CoordinatorServer> server,
                CoordinatorServer::Create(options, *journal));
  if (server->port() != journal->content().port) {
    const Status saved = journal->SavePort(server->port());
    if (!saved)
      log::warn("journal=failed reason=\"{}\"",
                saved.error().message);  // the next one may get another port
  }
  server->Start();
  MUSTER_TRY(folder.WriteCoordinator(
      {fmt::format("127.0.0.1:{}", server->port()), ::getpid(), server->gateway_place()}));
  log::info("coordinator=ready job={} port={} gateway={}", spec.name, server->port(),
            options.gateway ? server->gateway_place() : "none");
  if (WaitForEnd(signals, finished)) server->WaitUntilQuiet(MonotonicNow() + kGoodbye);
  server->Stop();
  return {};
}

}  // namespace

int RunCoordinator(const std::filesystem::path& job_folder) {
  const JobFolder folder(job_folder);
  if (std::filesystem::exists(folder.result())) {
    log::info("coordinator=not-needed reason=\"the job has ended\"");
    return 0;
  }
  const Status served = Serve(folder);
  if (served) return 0;
  log::error("coordinator=failed reason=\"{}\"", served.error().ToString());
  return 1;
}

}  // namespace muster
