#include "launcher/platform/kubernetes/pod_agent.h"

#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "launcher/agent/agent.h"
#include "launcher/agent/agent_group.h"
#include "launcher/bundle/bundle_service.h"
#include "launcher/bundle/fetch.h"
#include "launcher/client/client.h"
#include "launcher/job/job.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/pod_environment.h"
#include "launcher/process/signals.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/numbered_name.h"

namespace muster::kubernetes {
namespace {

constexpr std::chrono::minutes kCoordinatorWait{10};  // for a coordinator that answers
constexpr int kToldToGo = 128 + SIGTERM;              // exit code

// The slots of the pod, from the serial at the end of its name.
Result<std::vector<std::string>> SlotsOf(const PodEnvironment& pod) {
  if (const auto name = NumberedName::Parse(pod.pod)) {
    return SlotsOfPod(pod.pool, name->number, pod.devices);
  }
  return Err(Code::kFailedPrecondition, "MUSTER_POD_NAME is \"{}\", which does not end in a number",
             pod.pod);
}

// Cancels what the pod waits for when it is told to go, before it has a worker to look after.
class EarlyEnd {
 public:
  static Result<std::unique_ptr<EarlyEnd>> Create() {
    // RunAgent waits for SIGCHLD. A thread of gRPC that did not block it from its beginning would swallow it.
    BlockSignals({SIGCHLD});
    MUSTER_ASSIGN(SignalFd signals, SignalFd::Create({SIGTERM, SIGINT, SIGHUP}));
    MUSTER_ASSIGN(WakeFd over, WakeFd::Create());
    return std::unique_ptr<EarlyEnd>(new EarlyEnd(std::move(signals), std::move(over)));
  }
  ~EarlyEnd() { over_.Notify(); }

  Cancellation& cancellation() { return cancellation_; }

 private:
  EarlyEnd(SignalFd signals, WakeFd over)
      : signals_(std::move(signals)), over_(std::move(over)), watcher_([this] { Watch(); }) {}

  void Watch() {
    pollfd waits[] = {{signals_.fd(), POLLIN, 0}, {over_.fd(), POLLIN, 0}};
    while (::poll(waits, std::size(waits), -1) < 0) {
    }
    if (waits[0].revents != 0) cancellation_.Cancel();
  }

  const SignalFd signals_;
  const WakeFd over_;
  Cancellation cancellation_;
  std::jthread watcher_;  // last: it uses the others
};

Result<std::string> AskForJob(const JobFolder& folder, const PodEnvironment& pod,
                              Cancellation& cancellation) {
  CoordinatorClient client(folder, pod.job, pod.secret);
  v1::JsonReply reply;
  MUSTER_TRY(Call(client, cancellation, MonotonicNow() + kCoordinatorWait,
                  [&](Stub& stub, grpc::ClientContext* context) {
                    return stub.Describe(context, v1::DescribeRequest{}, &reply);
                  }));
  return reply.json();
}

// The job's files, from wherever they are nearest, and for those who come later.
class Program {
 public:
  static Result<std::unique_ptr<Program>> Fetch(const PodEnvironment& pod, const JobSpec& spec,
                                                const std::string& slot,
                                                Cancellation& cancellation) {
    const FetchOptions options{.coordinator = pod.coordinator,
                               .job = pod.job,
                               .secret = pod.secret,
                               .agent = slot,
                               .bundle = spec.bundle};
    auto program = FetchAs(options, pod, spec, cancellation);
    if (!program && program.error().code != Code::kCancelled) {
      ReportProblem(options, program.error().message);
    }
    return program;
  }

  const std::string& address() const { return server_->address(); }

 private:
  static Result<std::unique_ptr<Program>> FetchAs(const FetchOptions& options,
                                                  const PodEnvironment& pod, const JobSpec& spec,
                                                  Cancellation& cancellation) {
    std::unique_ptr<Program> self(new Program);
    MUSTER_ASSIGN(self->store_, ChunkStore::Open(pod.folder().root() / "chunks"));
    const TimePoint begin = MonotonicNow();
    MUSTER_ASSIGN(const Fetched fetched, muster::Fetch(options, *self->store_, cancellation));
    MUSTER_TRY(Unpack(fetched.manifest, *self->store_, spec.cwd));
    for (const auto& [source, chunks] : fetched.chunks_from) {
      log::info("bundle=fetched source={} chunks={}", source, chunks);
    }
    log::info("bundle=unpacked files={} bytes={} seconds={:.2f}", fetched.manifest.entries().size(),
              fetched.manifest.bytes(), Seconds(MonotonicNow() - begin));
    MUSTER_ASSIGN(self->server_,
                  ChunkServer::Start(pod.pod_ip, pod.job, pod.secret, *self->store_));
    return self;
  }

  std::unique_ptr<ChunkStore> store_;
  std::unique_ptr<ChunkServer> server_;
};

}  // namespace

Result<int> RunPodAgent() {
  MUSTER_ASSIGN(const PodEnvironment pod, ReadPodEnvironment(/*worker=*/true));
  MUSTER_ASSIGN(const std::vector<std::string> slots, SlotsOf(pod));
  MUSTER_ASSIGN(auto early_end, EarlyEnd::Create());  // before there are threads
  InitLog("agent " + pod.pod);
  const JobFolder folder = pod.folder();
  MUSTER_TRY(MakeFolder(folder.root()));
  MUSTER_TRY(folder.WriteSecret(pod.secret));
  MUSTER_TRY(folder.WriteCoordinator({.address = pod.coordinator}));
  const auto job = AskForJob(folder, pod, early_end->cancellation());
  if (early_end->cancellation().cancelled()) return kToldToGo;
  if (!job) return tl::unexpected(job.error());
  MUSTER_ASSIGN(const JobSpec spec, JobSpec::FromJson(*job));
  MUSTER_TRY(folder.WriteSpec(spec));
  log::info("agent=enrolled pod={} coordinator={}", pod.pod, pod.coordinator);
  AgentPlace place{.listen_address = pod.pod_ip, .in_pod = true};
  std::unique_ptr<Program> program;
  if (!spec.bundle.empty()) {
    auto fetched = Program::Fetch(pod, spec, slots.front(), early_end->cancellation());
    if (early_end->cancellation().cancelled()) return kToldToGo;
    if (!fetched) return tl::unexpected(fetched.error());
    program = std::move(*fetched);
    place.shares_at = program->address();
  }
  early_end.reset();  // the signals stay blocked until they are read below
  const Result<int> exit_code = slots.size() > 1 ? RunAgents(folder.root(), slots, place)
                                                 : RunAgent(folder.root(), slots.front(), place);
  if (!exit_code) return exit_code;
  // The pod is over at once: it need not wait until those whom it serves are done, nor for gRPC.
  std::_Exit(*exit_code);
}

}  // namespace muster::kubernetes
