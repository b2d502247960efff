// Environment: what the agent tells a worker through environment variables, read once at the start.
//
// MUSTER_JOB_DIR (unset: the program trains alone), MUSTER_JOB, MUSTER_WORKER_ID, MUSTER_INCARNATION, MUSTER_REDUCE
// (exact|float), MUSTER_CHECKPOINT (folder), MUSTER_CHECKPOINT_EVERY (steps), MUSTER_RESUME (0|1), MUSTER_STEP_TIMEOUT_MS,
// MUSTER_HEARTBEAT_TIMEOUT_MS, MUSTER_LISTEN (IP address at which peers reach this worker), MUSTER_JOIN (auto|flat|plain),
// MUSTER_DEVICE (auto|cpu|cuda[:N]), MUSTER_COLLECTIVES (auto|host|nccl), MUSTER_NCCL_ENCRYPT (0|1), MUSTER_GPU_CHECK (full|brief|off: what a GPU must pass before
// it is used; full takes a second or two), MUSTER_GPU_EXPECTED (0|1: this machine is meant for GPUs, so auto does not fall back to
// the CPU, but for a program that trains on CPUs only),
// MUSTER_NICE (the nice value to take when this worker, which was started at a lower priority, is in the ring).
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "runtime/base/device_choice.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/train/train.h"

namespace muster {

// How a joiner gets the state: while the others train on (flat), or by a copy for which they wait (plain). Auto: by a copy if it is
// small.
enum class JoinMode { kAuto, kFlat, kPlain };

// How sums travel. Auto: by NCCL between GPUs if it is installed, else by the host transport.
enum class Collectives { kAuto, kHost, kNccl };

enum class GpuCheck { kFull, kBrief, kOff };

struct WorkerEnvironment {
  std::filesystem::path job_dir;  // empty: alone
  std::string job;
  std::string secret;
  std::string worker = "w-0";
  std::string listen_address = "127.0.0.1";
  uint64_t incarnation = 1;
  Reduce reduce = Reduce::kExact;
  JoinMode join = JoinMode::kAuto;
  DeviceChoice device;
  bool gpu_expected = false;
  GpuCheck gpu_check = GpuCheck::kFull;
  Collectives collectives = Collectives::kAuto;
  bool nccl_encrypt = false;
  std::optional<int> nice;           // none: as it is
  std::filesystem::path checkpoint;  // empty: none
  uint64_t checkpoint_every = 0;     // steps; 0: only at the end
  bool resume = false;
  Duration step_timeout = std::chrono::seconds(60);
  Duration heartbeat_timeout = std::chrono::seconds(3);

  bool alone() const { return job_dir.empty(); }
};

// Errors: kInvalidArgument (names the variable and its value), and those of reading the job's secret.
Result<WorkerEnvironment> ReadWorkerEnvironment();

}  // namespace muster
