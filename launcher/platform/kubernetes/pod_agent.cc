#include "launcher/platform/kubernetes/pod_agent.h"

#include <filesystem>

#include "launcher/agent/agent.h"
#include "launcher/client/client.h"
#include "launcher/job/job.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/pod_environment.h"
#include "runtime/base/log.h"

namespace muster::kubernetes {
namespace {

constexpr std::chrono::minutes kCoordinatorWait{10};  // for a coordinator that answers

// "workers-7" for the pod "digits-1a2b3-workers-7" of the pool "workers". A long pool is shortened in the pod's name.
Result<std::string> SlotOf(const PodEnvironment& pod) {
  const size_t dash = pod.pod.rfind('-');
  const std::string serial = dash == std::string::npos ? "" : pod.pod.substr(dash + 1);
  const bool number = !serial.empty() && serial.find_first_not_of("0123456789") == serial.npos;
  if (number) return fmt::format("{}-{}", pod.pool, serial);
  return Err(Code::kFailedPrecondition, "MUSTER_POD_NAME is \"{}\", which does not end in a number",
             pod.pod);
}

Result<std::string> AskForJob(const JobFolder& folder, const PodEnvironment& pod) {
  CoordinatorClient client(folder, pod.job, pod.secret);
  Cancellation cancellation;  // nobody cancels: SIGTERM ends the process by its default
  v1::JsonReply reply;
  MUSTER_TRY(Call(client, cancellation, MonotonicNow() + kCoordinatorWait,
                  [&](Stub& stub, grpc::ClientContext* context) {
                    return stub.Describe(context, v1::DescribeRequest{}, &reply);
                  }));
  return reply.json();
}

}  // namespace

Result<int> RunPodAgent() {
  MUSTER_ASSIGN(const PodEnvironment pod, ReadPodEnvironment(/*worker=*/true));
  if (pod.devices != 1) {
    return WithHint(
        Err(Code::kUnimplemented, "this version runs one worker a pod, not {}", pod.devices),
        "set device.count of the pool to 1");
  }
  MUSTER_ASSIGN(const std::string slot, SlotOf(pod));
  InitLog("agent " + slot);
  const JobFolder folder(pod.home / ".muster");
  std::error_code error;
  std::filesystem::create_directories(folder.root(), error);
  if (error) {
    return Err(Code::kInternal, "cannot make {}: {}", folder.root().string(), error.message());
  }
  MUSTER_TRY(folder.WriteSecret(pod.secret));
  MUSTER_TRY(folder.WriteCoordinator({.address = pod.coordinator}));
  MUSTER_ASSIGN(const std::string job, AskForJob(folder, pod));
  MUSTER_ASSIGN(const JobSpec spec, JobSpec::FromJson(job));
  MUSTER_TRY(folder.WriteSpec(spec));
  log::info("agent=enrolled pod={} coordinator={}", pod.pod, pod.coordinator);
  return RunAgent(folder.root(), slot, {.listen_address = pod.pod_ip, .in_pod = true});
}

}  // namespace muster::kubernetes
