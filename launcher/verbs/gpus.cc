#include "launcher/verbs/gpus.h"

#include "collectives/nccl/library.h"

namespace muster {

namespace {

Finding CheckGpu(const cuda::DeviceFacts& facts, const cuda::HealthOptions& options) {
  const auto health = [&]() -> Result<cuda::Health> {
    MUSTER_ASSIGN(const std::unique_ptr<cuda::Device> device, cuda::Device::Open(facts.ordinal));
    return cuda::CheckHealth(*device, options);
  }();
  return {"GPU", health.has_value(),
          health ? fmt::format("{} at {}, {:.0f} GB/s in its memory", facts.ToString(),
                               facts.bus_id, health->bytes_per_second / 1e9)
                 : health.error().ToString()};
}

}  // namespace

Status FindGpus() {
  MUSTER_TRY(cuda::ListDevices());
  MUSTER_TRY(nccl::Library::Load());
  return {};
}

std::vector<Finding> CheckGpus(const cuda::HealthOptions& options) {
  const auto devices = cuda::ListDevices();
  if (!devices) {
    const bool none = devices.error().code == Code::kNotFound;
    return {{"GPU", none,
             none ? fmt::format("none: {}", devices.error().message) : devices.error().ToString()}};
  }
  std::vector<Finding> findings;
  for (const cuda::DeviceFacts& facts : *devices) findings.push_back(CheckGpu(facts, options));
  const auto library = nccl::Library::Load();
  findings.push_back(
      {"NCCL", library.has_value(),
       library ? nccl::VersionText((*library)->version()) : library.error().ToString()});
  return findings;
}

}  // namespace muster
