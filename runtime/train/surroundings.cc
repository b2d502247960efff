#include "runtime/train/surroundings.h"

#include "collectives/host/host.h"
#include "collectives/inproc/inproc.h"
#include "collectives/nccl/library.h"
#include "collectives/nccl/nccl.h"
#include "runtime/base/log.h"
#include "runtime/rpc/coordinator_link.h"

namespace muster {

namespace {

constexpr int kExitStuck = 3;

// The gRPC line, in the shape that the membership shell knows.
class RpcLine : public ControlLine {
 public:
  RpcLine(const WorkerEnvironment& environment, ControlLineCallbacks callbacks)
      : link_({environment.job_dir, environment.job, environment.secret, std::move(callbacks.hello),
               std::move(callbacks.order)}) {
    link_.SetProgressSource(std::move(callbacks.progress));
  }
  void Send(const Report& report) override { link_.Report(report); }
  void SayHello() override { link_.Reconnect(); }
  Status Flush(TimePoint deadline) override { return link_.Flush(deadline); }

 private:
  CoordinatorLink link_;
};

// NCCL has not let go of a ring that broke. What it still writes into is this process's memory.
void EndProcess(const std::string& why) {
  log::critical("action=exit reason=\"{}\"", why);
  spdlog::shutdown();
  std::_Exit(kExitStuck);
}

// Sums of GPU memory by NCCL, if it is wanted and there.
Result<std::unique_ptr<Backend>> OnTopOf(std::unique_ptr<Backend> host,
                                         const WorkerEnvironment& environment,
                                         cuda::Device* device) {
  const bool must = environment.collectives == Collectives::kNccl;
  if (device == nullptr && must) {
    return WithHint(
        Err(Code::kInvalidArgument, "NCCL sums memory of GPUs, and this worker has none"),
        "use --collectives host, or --device cuda to see why");
  }
  if (device == nullptr || environment.collectives == Collectives::kHost) return host;
  if (!must) {
    if (const auto library = nccl::Library::Load(); !library) {
      log::warn("collectives=host reason=\"{}\"", library.error().ToString());
      return host;
    }
  }
  NcclOptions options;
  options.stuck = EndProcess;
  if (environment.nccl_encrypt) options.pre_shared_key = environment.secret;
  auto backend = CreateNcclBackend(std::move(host), *device, options);
  if (backend) return backend;
  Error error = backend.error();
  error.code = Code::kUnavailable;  // here; it may be there on other machines
  return tl::unexpected(std::move(error));
}

}  // namespace

Result<Surroundings> MakeSurroundings(const SessionSpec& spec) {
  Surroundings surroundings;
  MUSTER_ASSIGN(surroundings.environment, ReadWorkerEnvironment());
  const WorkerEnvironment& environment = surroundings.environment;
  if (environment.alone()) {
    InitLog("alone", "warn");
  } else {
    InitLog(environment.worker);
  }
  MUSTER_ASSIGN(surroundings.gpu, OpenWorkerGpu(environment, spec));
  if (environment.alone()) {
    surroundings.backend = CreateInprocBackend(CreateInprocFabric(), "alone");
    return surroundings;
  }
  HostOptions options;
  options.listen_address = environment.listen_address;
  options.job = environment.job;
  options.secret = environment.secret;
  MUSTER_ASSIGN(std::unique_ptr<Backend> host, CreateHostBackend(options));
  MUSTER_ASSIGN(surroundings.backend,
                OnTopOf(std::move(host), environment, surroundings.gpu.device.get()));
  surroundings.open_line = [environment](ControlLineCallbacks callbacks) {
    return std::make_unique<RpcLine>(environment, std::move(callbacks));
  };
  return surroundings;
}

}  // namespace muster
