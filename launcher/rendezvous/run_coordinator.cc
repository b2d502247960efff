#include "launcher/rendezvous/run_coordinator.h"

#include <poll.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "launcher/job/job.h"
#include "launcher/process/signals.h"
#include "launcher/rendezvous/coordinator_shell.h"
#include "launcher/rendezvous/job_gateway.h"
#include "launcher/rendezvous/service.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kGoodbye{2};  // for workers and agents to disconnect at the end

// The step in the status.json that a former coordinator has left; 0 if there is none.
uint64_t StepInStatus(const JobFolder& folder) {
  const auto text = ReadFile(folder.status(), 1 << 20);
  const auto status = nlohmann::json::parse(text.value_or(""), nullptr, false);
  return status.is_object() ? status.value("step", uint64_t{0}) : 0;
}

ShellOptions MakeOptions(const JobSpec& spec, const JobFolder& folder, const WakeFd& finished) {
  CoordinatorOptions coordinator;
  coordinator.job = spec.name;
  coordinator.known_step = StepInStatus(folder);
  coordinator.min_workers = spec.min_workers;
  coordinator.max_workers = spec.max_workers;
  coordinator.heartbeat_timeout = std::chrono::milliseconds(spec.heartbeat_timeout_ms);
  coordinator.step_timeout = std::chrono::milliseconds(spec.step_timeout_ms);
  coordinator.start_timeout = std::chrono::milliseconds(spec.start_timeout_ms);
  ShellOptions options{{spec.name, "local"},
                       coordinator,
                       folder,
                       WallTime(std::chrono::milliseconds(spec.created_ms))};
  options.on_finished = [&finished] { finished.Notify(); };
  return options;
}

std::map<std::string, uint64_t> Incarnations(const JournalContent& content) {
  std::map<std::string, uint64_t> newest;
  if (!content.state) return newest;
  for (const auto& generation : {content.state->active, content.state->proposed}) {
    if (!generation) continue;
    for (const Member& member : generation->members) {
      newest[member.worker] = std::max(newest[member.worker], member.incarnation);
    }
  }
  return newest;
}

// Nothing where the folder does not ask for one.
Result<std::unique_ptr<JobGateway>> OpenGateway(const JobFolder& folder, const std::string& secret,
                                                JobControl& control, JobOutlet& outlet) {
  const Result<GatewayPlace> place = folder.ReadGateway();
  if (!place && place.error().code == Code::kNotFound) return nullptr;
  if (!place) return tl::unexpected(place.error());
  GatewayOptions options;
  options.address = place->address;
  options.port = place->port;
  options.secret = secret;
  return JobGateway::Create(options, folder, control, outlet);
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
  MUSTER_ASSIGN(const std::string secret, folder.ReadSecret());
  MUSTER_ASSIGN(const std::unique_ptr<Journal> journal, Journal::Open(folder.journal()));
  EventLog events(folder.events());
  CoordinatorShell shell(MakeOptions(spec, folder, finished), *journal, events);
  const ServiceOptions options{spec.id, secret, journal->content().port,
                               Incarnations(journal->content())};
  MUSTER_ASSIGN(const std::unique_ptr<RendezvousService> service,
                RendezvousService::Create(options, shell));
  if (service->port() != journal->content().port) {
    const Status saved = journal->SavePort(service->port());
    if (!saved)
      log::warn("journal=failed reason=\"{}\"",
                saved.error().message);  // the next one may get another port
  }
  const auto gateway = OpenGateway(folder, secret, shell, *service);
  JobGateway* const http = gateway ? gateway->get() : nullptr;
  // Also when there will be nothing to serve: calls may have come already and wait for the shell.
  shell.Start(http ? static_cast<JobOutlet&>(*http) : *service);
  CoordinatorAddress place{fmt::format("127.0.0.1:{}", service->port()), ::getpid(), ""};
  if (http) place.gateway = http->place();
  Status served = gateway ? folder.WriteCoordinator(place) : tl::unexpected(gateway.error());
  if (served) {
    log::info("coordinator=ready job={} port={} gateway={}", spec.name, service->port(),
              http ? place.gateway : "none");
    if (http) http->gateway().SetReady();
    if (WaitForEnd(signals, finished)) {
      const TimePoint deadline = MonotonicNow() + kGoodbye;
      service->WaitUntilQuiet(deadline);
      if (http) http->gateway().WaitUntilQuiet(deadline);
    }
  }
  // First the shell, so that every call that waits for it has its answer.
  shell.Stop();
  if (http) http->gateway().Shutdown();
  service->Shutdown();
  return served;
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
