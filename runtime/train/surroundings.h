// Surroundings: what a worker's session finds around itself: its environment, a collectives backend, and a line to the coordinator.
//
// Threading: plain values.
#pragma once

#include <memory>

#include "collectives/communicator.h"
#include "runtime/train/environment.h"
#include "runtime/train/membership.h"
#include "runtime/train/worker_gpu.h"

namespace muster {

struct Surroundings {
  WorkerEnvironment environment;
  WorkerGpu gpu;
  std::unique_ptr<Backend> backend;
  ControlLineFactory open_line;  // empty: no coordinator
};

// Those of this process, by its environment variables: a member of a job, or a world of one.
// Errors: those of ReadWorkerEnvironment, of OpenWorkerGpu and of the backend.
Result<Surroundings> MakeSurroundings(const SessionSpec& spec);

}  // namespace muster
