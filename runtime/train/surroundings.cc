#include "runtime/train/surroundings.h"

#include "collectives/host/host.h"
#include "collectives/inproc/inproc.h"
#include "runtime/rpc/coordinator_link.h"

namespace muster {

namespace {

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

}  // namespace

Result<Surroundings> MakeSurroundings() {
  Surroundings surroundings;
  MUSTER_ASSIGN(surroundings.environment, ReadWorkerEnvironment());
  const WorkerEnvironment& environment = surroundings.environment;
  if (environment.alone()) {
    surroundings.backend = CreateInprocBackend(CreateInprocFabric(), "alone");
    return surroundings;
  }
  HostOptions options;
  options.listen_address = environment.listen_address;
  options.job = environment.job;
  options.secret = environment.secret;
  MUSTER_ASSIGN(surroundings.backend, CreateHostBackend(options));
  surroundings.open_line = [environment](ControlLineCallbacks callbacks) {
    return std::make_unique<RpcLine>(environment, std::move(callbacks));
  };
  return surroundings;
}

}  // namespace muster
