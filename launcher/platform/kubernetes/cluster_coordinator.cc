#include "launcher/platform/kubernetes/cluster_coordinator.h"

#include <poll.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "k8s/client/config_loader.h"
#include "launcher/job/fields.h"
#include "launcher/platform/kubernetes/cluster_store.h"
#include "launcher/platform/kubernetes/fleet_json.h"
#include "launcher/platform/kubernetes/fleet_shell.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/pod_environment.h"
#include "launcher/platform/kubernetes/run_mirror.h"
#include "launcher/process/signals.h"
#include "launcher/rendezvous/coordinator_server.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

constexpr std::chrono::minutes kServerWait{5};  // for an API server that is away when we start
constexpr std::chrono::hours kResultWait{24};   // nobody else knows it
constexpr std::chrono::minutes kPodsWait{5};  // for pods that end, the time of a dead node among it
constexpr std::chrono::milliseconds kLookAtPods{50};
constexpr std::chrono::seconds kGoodbye{2};
constexpr std::chrono::hours kNoStartTimeout{24 * 365};  // the fleet knows when to give up
// Somebody may have heard of events that a former coordinator could not keep: their numbers are not given again.
constexpr uint64_t kEventsOfAnEpoch = 1'000'000;

// A run that is not ours any more must hear nothing more of us, also not what was decided before: nothing is carried out to its end.
[[noreturn]] void LeaveAtOnce(const std::string& reason) {
  log::warn("coordinator=fenced reason=\"{}\"", reason);
  std::_Exit(1);
}

Result<std::string> ValueOf(const RunRecord& record, std::string_view key) {
  if (const std::string* const found = record.Find(key)) return *found;
  return Err(Code::kDataLoss, "the run's ConfigMap has no key {}", key);
}

Result<ClusterRun> ReadRun(k8s::ApiClient& client, const RunRecord& record,
                           const PodEnvironment& pod) {
  ClusterRun run;
  run.namespace_name = pod.name_space;
  run.owner_uid = record.uid();
  MUSTER_ASSIGN(const std::string job, ValueOf(record, kJobKey));
  MUSTER_ASSIGN(run.spec, JobSpec::FromJson(job));
  MUSTER_ASSIGN(const std::string file, ValueOf(record, kJobFileKey));
  auto parsed = ParseJobFile(file);
  if (!parsed) {
    return Err(Code::kDataLoss, "the job file of the run cannot be read: {}",
               FormatErrors(kJobFileKey, parsed.error(), 3));
  }
  run.file = std::move(*parsed);
  MUSTER_ASSIGN(run.image, ValueOf(record, kImageKey));
  MUSTER_ASSIGN(const json service, client.Get({k8s::kServices, pod.name_space, pod.run, ""},
                                               k8s::Within(kServerWait)));
  run.coordinator_ip = FieldOr<std::string>(FieldOr<json>(service, "spec", {}), "clusterIP", "");
  if (!run.coordinator_ip.empty()) return run;
  return Err(Code::kFailedPrecondition, "the Service {} has no ClusterIP", pod.run);
}

// The two halves of the coordinator, each of which tells the other what happens to it.
class Exchange final : public FleetListener {
 public:
  explicit Exchange(WorkerRange workers) : workers_(workers) {}

  void SetControl(JobControl& control) { control_ = &control; }  // before there is a fleet
  void SetFleet(FleetShell& fleet) { fleet_ = &fleet; }          // before the coordinator acts

  // --- From the coordinator ---
  void OnState(const CoordinatorState& state) {
    std::vector<std::string> members;
    if (state.active) {
      for (const Member& member : state.active->members) members.push_back(member.worker);
    }
    FleetShell& fleet = *fleet_;
    fleet.MembersChanged(members);
    const WorkerRange wanted{state.min_workers, state.max_workers};
    if (wanted == workers_) return;
    workers_ = wanted;
    fleet.Resize(wanted.min, wanted.max);
  }
  std::string PlatformStatus() const {
    const FleetShell* fleet = fleet_;
    return fleet != nullptr ? fleet->StatusJson() : "";  // asked for before there is one
  }

  // --- From the fleet ---
  void Offer(const std::vector<std::string>& slots,
             const std::map<std::string, std::string>& leaving) override {
    SlotsOffered offer{slots, leaving};
    for (auto& [slot, why] : offer.leaving) why = "its pod goes: " + why;
    control_->Submit(std::move(offer), {}, {});
  }
  void Lost(const std::string& slot, int exit_code, int signal,
            const std::string& reason) override {
    control_->Submit(
        SlotExited{slot, exit_code, signal, fmt::format("the pod of {} is gone: {}", slot, reason)},
        {}, {});
  }
  void Note(const std::string& kind, const std::string& message) override {
    control_->Submit(PlatformNoted{kind, message}, {}, {});
  }
  void Fail(int exit_code, const std::string& message) override {
    control_->Submit(PlatformFailed{exit_code, message}, {}, {});
  }
  void Fenced(const std::string& reason) override { LeaveAtOnce(reason); }

 private:
  WorkerRange workers_;  // the coordinator's thread has it
  JobControl* control_ = nullptr;
  std::atomic<FleetShell*> fleet_{nullptr};
};

// After the end nobody needs to know how the pods go.
class NobodyListens final : public FleetListener {
 public:
  void Offer(const std::vector<std::string>&, const std::map<std::string, std::string>&) override {}
  void Lost(const std::string&, int, int, const std::string&) override {}
  void Note(const std::string& kind, const std::string& message) override {
    log::info("fleet={} message=\"{}\"", kind, message);
  }
  void Fail(int, const std::string&) override {}
  void Fenced(const std::string& reason) override { LeaveAtOnce(reason); }
};

// Waits for SIGTERM, or until `wake` or `deadline`, whichever is given; true if it was SIGTERM.
bool WaitForTerm(const SignalFd& signals, const WakeFd* wake, std::optional<TimePoint> deadline) {
  while (true) {
    int wait_ms = -1;
    if (deadline) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(*deadline - MonotonicNow()).count();
      if (left <= 0) return false;
      wait_ms = static_cast<int>(left);
    }
    pollfd waits[] = {{signals.fd(), POLLIN, 0}, {wake != nullptr ? wake->fd() : -1, POLLIN, 0}};
    ::poll(waits, 2, wait_ms);  // without a deadline: the core's clock ticks on
    if (!signals.Read().empty()) return true;
    if (wake != nullptr && waits[1].revents != 0) return false;
  }
}

class ClusterCoordinator {
 public:
  ClusterCoordinator(PodEnvironment pod, ClusterRun run, k8s::ApiClient& client, RunRecord& record,
                     const SignalFd& signals)
      : pod_(std::move(pod)),
        run_(std::move(run)),
        client_(client),
        record_(record),
        signals_(signals),
        folder_(pod_.folder()) {}

  Result<int> Run() {
    // A former coordinator may have died while the pods ended.
    if (record_.Find(kResultKey) != nullptr) return EndPods();
    MUSTER_ASSIGN(finished_wake_, WakeFd::Create());
    MUSTER_TRY(PrepareFolder());
    MUSTER_ASSIGN(const std::unique_ptr<ClusterStore> store, ClusterStore::Open(record_));
    WorkerRange workers{run_.spec.min_workers, run_.spec.max_workers};
    if (store->state()) workers = {store->state()->min_workers, store->state()->max_workers};
    Exchange exchange(workers);
    MUSTER_ASSIGN(const std::unique_ptr<CoordinatorServer> server,
                  CoordinatorServer::Create(Options(exchange), *store));
    exchange.SetControl(server->control());
    MUSTER_ASSIGN(FleetShellOptions options, FleetOptions(workers));
    FleetShell fleet(client_, record_, std::move(options), exchange);
    exchange.SetFleet(fleet);
    server->Start();
    log::info("coordinator=ready run={} epoch={} workers={}:{}", pod_.run, record_.epoch(),
              workers.min, workers.max);
    const int exit_code = Serve(*server, fleet);
    store->Stop();
    server->Stop();
    return exit_code;
  }

 private:
  Status PrepareFolder() {
    MUSTER_TRY(MakeFolder(folder_.logs()));
    MUSTER_TRY(folder_.WriteSpec(run_.spec));
    return RestoreMirrored(record_, folder_);
  }

  ServerOptions Options(Exchange& exchange) {
    ServerOptions options = ServerOptionsOf(run_.spec, folder_, "kubernetes", pod_.secret);
    options.shell.coordinator.slots_from_platform = true;
    options.shell.coordinator.start_timeout = kNoStartTimeout;
    options.shell.on_state = [&exchange](const CoordinatorState& state) {
      exchange.OnState(state);
    };
    options.shell.on_finished = [this](const std::string& finished) {
      finished_ = finished;
      finished_wake_->Notify();
    };
    options.shell.on_fenced = LeaveAtOnce;
    options.shell.platform_status = [&exchange] { return exchange.PlatformStatus(); };
    options.service.address = "0.0.0.0";
    options.service.port = kGrpcPort;
    options.service.or_any_port = false;
    options.gateway = GatewayPlace{"0.0.0.0", kHttpPort};
    options.first_event = (record_.epoch() - 1) * kEventsOfAnEpoch + 1;
    return options;
  }

  Result<FleetShellOptions> FleetOptions(WorkerRange workers) const {
    FleetShellOptions options{.run = run_, .fleet = FleetOptionsOf(run_, workers)};
    if (const std::string* const saved = record_.Find(kFleetKey)) {
      MUSTER_ASSIGN(options.saved, fleet::FleetSavedFromJson(*saved));
    }
    return options;
  }

  // Until the job has ended and its pods are gone, or we are told to go. The run itself stays, with the result, until somebody has
  // looked (docs/kubernetes.md).
  int Serve(CoordinatorServer& server, FleetShell& fleet) {
    RunMirror mirror(record_, server.control(),
                     [&fleet](const Status& written) { fleet.RecordWritten(written); });
    if (WaitForTerm(signals_, &*finished_wake_, std::nullopt)) return 1;
    const Status kept = mirror.Finish(finished_, MonotonicNow() + kResultWait);
    if (!kept) log::error("result=not-kept reason=\"{}\"", kept.error().ToString());
    StopPods(fleet);
    server.WaitUntilQuiet(MonotonicNow() + kGoodbye);
    return 0;
  }

  Result<int> EndPods() {
    MUSTER_ASSIGN(FleetShellOptions options,
                  FleetOptions({run_.spec.min_workers, run_.spec.max_workers}));
    NobodyListens nobody;
    FleetShell fleet(client_, record_, std::move(options), nobody);
    StopPods(fleet);
    return 0;
  }

  // Ends early if we are told to go: whoever has the result may delete the run meanwhile, and with it our right to see its pods.
  void StopPods(FleetShell& fleet) const {
    fleet.Stop("the job has ended");
    for (const TimePoint end = MonotonicNow() + kPodsWait; MonotonicNow() < end;) {
      if (fleet.WaitUntilDone(MonotonicNow())) return;
      if (WaitForTerm(signals_, nullptr, MonotonicNow() + kLookAtPods)) return;
    }
    log::warn("pods=left reason=\"they did not end within {} min\"", kPodsWait.count());
  }

  const PodEnvironment pod_;
  const ClusterRun run_;
  k8s::ApiClient& client_;
  RunRecord& record_;
  const SignalFd& signals_;
  const JobFolder folder_;
  std::optional<WakeFd> finished_wake_;
  std::string finished_;  // set before the wake
};

}  // namespace

Result<int> RunClusterCoordinator() {
  MUSTER_ASSIGN(const SignalFd signals, SignalFd::Create({SIGTERM, SIGINT, SIGHUP}));
  MUSTER_ASSIGN(PodEnvironment pod, ReadPodEnvironment(/*worker=*/false));
  MUSTER_ASSIGN(k8s::ClientConfig config,
                k8s::InClusterConfig(k8s::ConfigEnvironment::OfThisProcess()));
  const k8s::ApiClientOptions options{.http2 = false,
                                      .max_connections = kRequestThreads + kSpareConnections};
  MUSTER_ASSIGN(const std::unique_ptr<k8s::ApiClient> client,
                k8s::ApiClient::Create(std::move(config), options));
  auto record = RunRecord::TakeOver(*client, pod.name_space, pod.run, MonotonicNow() + kServerWait);
  if (!record && record.error().code == Code::kNotFound) {
    log::info("coordinator=not-needed reason=\"{}\"", record.error().message);
    return 0;
  }
  if (!record) return tl::unexpected(record.error());
  MUSTER_ASSIGN(ClusterRun run, ReadRun(*client, **record, pod));
  return ClusterCoordinator(std::move(pod), std::move(run), *client, **record, signals).Run();
}

}  // namespace muster::kubernetes
