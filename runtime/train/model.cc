#include "runtime/train/gpu.h"

namespace muster {

Result<std::unique_ptr<GpuModel>> Model::OnGpu(cuda::Device& device) {
  (void)device;
  return Err(Code::kUnimplemented, "this program trains on CPUs only");
}

}  // namespace muster
