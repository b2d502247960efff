#include "launcher/platform/kubernetes/pod_agent.h"

#include <charconv>
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

// The slot of a pod with one, from the serial at the end of its name.
Result<std::string> SlotOf(const PodEnvironment& pod) {
  const size_t dash = pod.pod.rfind('-');
  const char* const end = pod.pod.data() + pod.pod.size();
  int64_t serial = 0;
  const auto [last, error] = std::from_chars(pod.pod.data() + dash + 1, end, serial);
  if (dash != std::string::npos && error == std::errc() && last == end) {
    return SlotsOfPod(pod.pool, serial, 1).front();
  }
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
  const JobFolder folder = pod.folder();
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
