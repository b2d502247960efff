#include "launcher/verbs/gpus.h"

#include <fmt/ranges.h>

#include "collectives/nccl/library.h"
#include "runtime/cuda/device.h"

namespace muster {

namespace {

Result<std::string> DescribeDevices() {
  MUSTER_ASSIGN(const std::vector<cuda::DeviceFacts> devices, cuda::ListDevices());
  std::vector<std::string> texts;
  for (const cuda::DeviceFacts& device : devices) texts.push_back(device.ToString());
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace

Result<std::string> DescribeGpus() {
  MUSTER_ASSIGN(const std::string devices, DescribeDevices());
  MUSTER_ASSIGN(const nccl::Library* library, nccl::Library::Load());
  return fmt::format("{}; NCCL {}", devices, nccl::VersionText(library->version()));
}

Finding CheckGpus() {
  const auto devices = DescribeDevices();
  if (!devices && devices.error().code == Code::kNotFound) {
    return {"GPUs", true, fmt::format("none: {}", devices.error().message)};
  }
  const auto gpus = DescribeGpus();
  return {"GPUs", gpus.has_value(), gpus ? *gpus : gpus.error().ToString()};
}

}  // namespace muster
