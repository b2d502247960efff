#include "runtime/train/worker_gpu.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/cuda/health.h"
#include "runtime/train/cuda/step_image.h"

namespace muster {

namespace {

constexpr cuda::HealthOptions kBriefCheck{.memory_bytes = 1 << 20, .rounds = 16};
constexpr auto kAnswerTimeout = std::chrono::seconds(5);

// 3 of "w-3" and of "gpu-0-3", whose machine's workers have the numbers of its GPUs.
int NumberOf(const std::string& worker) {
  int number = 0;
  const size_t dash = worker.rfind('-');
  const char* digits = worker.data() + (dash == std::string::npos ? 0 : dash + 1);
  (void)std::from_chars(digits, worker.data() + worker.size(), number);
  return std::max(number, 0);
}

Result<std::unique_ptr<cuda::Device>> Open(const WorkerEnvironment& environment) {
  MUSTER_ASSIGN(const std::vector<cuda::DeviceFacts> devices, cuda::ListDevices());
  if (devices.empty()) return Err(Code::kNotFound, "there is no GPU");
  const int count = static_cast<int>(devices.size());
  const int ordinal = environment.device.ordinal;
  return cuda::Device::Open(ordinal >= 0 ? ordinal : NumberOf(environment.worker) % count);
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

// What this machine, this build and this program need to have for it.
Result<WorkerGpu> Prepare(const WorkerEnvironment& environment, const SessionSpec& spec) {
  if (!spec.optimizer->Rule({0, 0})) {
    return Err(Code::kUnimplemented, "the optimizer \"{}\" has no kernel for GPUs",
               spec.optimizer->Describe());
  }
  WorkerGpu gpu;
  MUSTER_ASSIGN(gpu.device, Open(environment));
  MUSTER_TRY(gpu.device->FindKernel(kStepKernels, "raise_exponents"));
  MUSTER_ASSIGN(gpu.numerics, spec.move_to(*gpu.device));
  return gpu;
}

}  // namespace

Result<WorkerGpu> OpenWorkerGpu(const WorkerEnvironment& environment, const SessionSpec& spec) {
  using Kind = DeviceChoice::Kind;
  const bool must = environment.device.kind == Kind::kCuda;
  if (environment.device.kind == Kind::kCpu || (!must && !spec.move_to)) return WorkerGpu();
  Result<WorkerGpu> gpu = Err(Code::kUnimplemented, "this program trains on CPUs only");
  if (spec.move_to) gpu = Prepare(environment, spec);
  if (gpu) {
    if (Status healthy = Check(environment, gpu->device->facts().ordinal); !healthy) {
      gpu = tl::unexpected(healthy.error());
    } else {
      return gpu;
    }
  } else if (!must) {
    if (gpu.error().code != Code::kNotFound && gpu.error().code != Code::kUnimplemented) {
      log::warn("device=cpu reason=\"{}\"", gpu.error().ToString());
    }
    return WorkerGpu();
  }
  Error error = gpu.error();
  error.code = error.code == Code::kUnimplemented ? Code::kInvalidArgument : Code::kUnavailable;
  if (error.code == Code::kInvalidArgument && error.hint.empty()) error.hint = "use --device cpu";
  return tl::unexpected(std::move(error));
}

Status AskGpu(cuda::Device& device) {
  const auto answer = [&]() -> Status {
    MUSTER_TRY(device.Use());
    MUSTER_ASSIGN(const cuda::Stream stream, device.MakeStream());
    MUSTER_ASSIGN(const cuda::Event event, device.MakeEvent());
    MUSTER_TRY(device.Record(event, stream));
    return device.Await(event, "nothing", MonotonicNow() + kAnswerTimeout);
  }();
  if (answer) return {};
  return WithHint(Err(Code::kUnavailable, "{} at {} has failed: {}", device.facts().ToString(),
                      device.facts().bus_id, answer.error().message),
                  "the kernel's log names its Xid error; nvidia-smi -q shows those of its memory");
}

}  // namespace muster
