// Names: what the objects of a run on Kubernetes are called, and the labels by which they are found. Pure.
//
// Threading: constants and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/job/job.h"

namespace muster::kubernetes {

// On every object of a run; RunLabel() tells its runs apart.
inline constexpr std::string_view kManagedByLabel = "app.kubernetes.io/managed-by";  // "muster"
inline constexpr std::string_view kJobLabel = "muster.dev/job";                      // the name
inline constexpr std::string_view kRunLabel = "muster.dev/run";
// On what runs: "coordinator" or "worker".
inline constexpr std::string_view kComponentLabel = "app.kubernetes.io/component";
// On workers.
inline constexpr std::string_view kPoolLabel = "muster.dev/pool";
inline constexpr std::string_view kSerialAnnotation = "muster.dev/serial";

// In a worker's pod, the container whose end is that of its workers.
inline constexpr std::string_view kWorkerContainer = "worker";

inline constexpr int64_t kMaxSerial = 9'999'999'999;

// The value of kRunLabel: the first 12 digits of the run's id.
std::string RunLabel(const JobSpec& spec);

// "JOB-1a2b3": the ConfigMap, Secret, Service and rights of the run. 31 characters at most, a letter first, as a Service needs.
// A job whose name is too long for that is shortened with a hash.
std::string RunName(const JobSpec& spec);

// "JOB-1a2b3-coordinator": leaves room for what the Job controller adds for its pods.
std::string CoordinatorName(const JobSpec& spec);

// "JOB-1a2b3-POOL-7", 63 characters at most. `serial` is from 0 to kMaxSerial.
std::string WorkerName(const JobSpec& spec, const std::string& pool, int64_t serial);

// What stands for the pool in there: its name, shortened with a hash if it is long.
std::string PoolPart(const std::string& pool);

// The slots of that pod, each a worker's: "POOL-SERIAL", and with more devices than one "POOL-SERIAL-0" and so on.
std::vector<std::string> SlotsOfPod(const std::string& pool, int64_t serial, int devices);

}  // namespace muster::kubernetes
