// The nccl backend: sums of GPU memory by NCCL, everything else by the host transport below it.
//
// NCCL tells no other rank when one dies, and what waits for it hangs (decision 0014). So the ranks of a generation are connected by the
// host backend first; over that they agree on NCCL's unique ids, watch each other while their GPUs work, flood a revocation, and vote.
//
// Threading and ownership: as Backend; device and host backend must outlive the communicators, which they do if both outlive the backend.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "collectives/communicator.h"
#include "runtime/cuda/device.h"

namespace muster {

struct NcclOptions {
  // For all ranks to initialise NCCL, once they are connected.
  Duration init_timeout = std::chrono::seconds(60);
  // For NCCL to end what a revocation has ended, before `stuck` is called.
  Duration abort_timeout = std::chrono::seconds(5);
  // For NCCL's TCP connections, at least 32 characters and the same on all ranks; empty: they are not encrypted. Other networks of NCCL,
  // such as InfiniBand, never are. It cannot be changed later in a process.
  std::string pre_shared_key = {};
  // NCCL does not let go: this process must end, and its agent starts another. Does not return in a worker.
  std::function<void(const std::string& why)> stuck = {};
};

// A backend whose communicators have device(), but for worlds in which ranks share a GPU and NCCL does not let them. Errors: those of
// loading NCCL (kNotFound, kFailedPrecondition), kFailedPrecondition (it cannot encrypt), kResourceExhausted.
Result<std::unique_ptr<Backend>> CreateNcclBackend(std::unique_ptr<Backend> host,
                                                   cuda::Device& device,
                                                   const NcclOptions& options = {});

}  // namespace muster
