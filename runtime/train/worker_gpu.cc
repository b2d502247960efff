#include "runtime/train/worker_gpu.h"

#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/numbered_name.h"
#include "runtime/cuda/health.h"
#include "runtime/train/cuda/step_image.h"

namespace muster {

namespace {

constexpr cuda::HealthOptions kBriefCheck{.memory_bytes = 1 << 20, .rounds = 16};
constexpr auto kAnswerTimeout = std::chrono::seconds(5);

Result<std::unique_ptr<cuda::Device>> Open(const WorkerEnvironment& environment) {
  MUSTER_ASSIGN(const std::vector<cuda::DeviceFacts> devices, cuda::ListDevices());
  if (devices.empty()) return Err(Code::kNotFound, "there is no GPU");
  if (environment.device.ordinal >= 0) return cuda::Device::Open(environment.device.ordinal);
  // The workers of a machine have the numbers of its GPUs, if there are so many.
  const auto name = NumberedName::Parse(environment.worker);
  const auto count = static_cast<int64_t>(devices.size());
  return cuda::Device::Open(name ? static_cast<int>(name->number % count) : 0);
}

// By a Device of its own, so that the memory of the check is given back.
Status Check(const WorkerEnvironment& environment, int ordinal) {
  if (environment.gpu_check == GpuCheck::kOff) return {};
  MUSTER_ASSIGN(const std::unique_ptr<cuda::Device> device, cuda::Device::Open(ordinal));
  cuda::HealthOptions options;
  if (environment.gpu_check == GpuCheck::kBrief) options = kBriefCheck;
  MUSTER_ASSIGN(const cuda::Health health, cuda::CheckHealth(*device, options));
  log::info("gpu=\"{}\" bus_id={} memory_gb_per_s={:.0f}", device->facts().ToString(),
            device->facts().bus_id, health.bytes_per_second / 1e9);
  return {};
}

// What this build and this program need to have for it.
Status Prepare(const SessionSpec& spec, WorkerGpu& gpu) {
  if (!spec.optimizer->Rule({0, 0})) {
    return Err(Code::kUnimplemented, "the optimizer \"{}\" has no kernel for GPUs",
               spec.optimizer->Describe());
  }
  MUSTER_TRY(gpu.device->FindKernel(kStepKernels, "raise_exponents"));
  MUSTER_ASSIGN(gpu.numerics, spec.move_to(*gpu.device));
  return {};
}

// What keeps this worker from training on a GPU that it must have.
tl::unexpected<Error> Refused(Error error) {
  if (error.code == Code::kUnimplemented) {
    error.code = Code::kInvalidArgument;
    error.hint = "use --device cpu";
  } else {
    error.code = Code::kUnavailable;
  }
  return tl::unexpected(std::move(error));
}

}  // namespace

Result<WorkerGpu> OpenWorkerGpu(const WorkerEnvironment& environment, const SessionSpec& spec) {
  using Kind = DeviceChoice::Kind;
  if (environment.device.kind == Kind::kCpu) return WorkerGpu();
  const auto without = [&](const Error& error, Code expected) -> Result<WorkerGpu> {
    const bool can = error.code != Code::kUnimplemented;
    if (environment.device.kind == Kind::kCuda || (environment.gpu_expected && can)) {
      return Refused(error);
    }
    if (error.code != expected) log::warn("device=cpu reason=\"{}\"", error.ToString());
    return WorkerGpu();
  };
  if (!spec.move_to) {
    return without({Code::kUnimplemented, "this program trains on CPUs only", ""},
                   Code::kUnimplemented);
  }
  auto device = Open(environment);
  if (!device) return without(device.error(), Code::kNotFound);
  WorkerGpu gpu{std::move(*device), ""};
  if (Status prepared = Prepare(spec, gpu); !prepared) {
    return without(prepared.error(), Code::kUnimplemented);
  }
  if (Status healthy = Check(environment, gpu.device->facts().ordinal); !healthy) {
    return Refused(healthy.error());
  }
  return gpu;
}

Status AskGpu(cuda::Device& device) {
  const auto answer = [&]() -> Status {
    MUSTER_TRY(device.Use());
    MUSTER_ASSIGN(const cuda::Stream stream, device.MakeStream());
    MUSTER_ASSIGN(const cuda::Event event, device.MakeEvent());
    return device.AwaitAll(stream, event, "nothing", MonotonicNow() + kAnswerTimeout);
  }();
  if (answer) return {};
  return WithHint(Err(Code::kUnavailable, "{} at {} has failed: {}", device.facts().ToString(),
                      device.facts().bus_id, answer.error().message),
                  "the kernel's log names its Xid error; nvidia-smi -q shows those of its memory");
}

}  // namespace muster
