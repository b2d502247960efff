// Health: whether a GPU remembers what it is told, computes what is known, and moves data as fast as it should. A worker asks before it
// joins, because one bad GPU spoils or slows the steps of all.
//
// Threading: as Device; one check of a device at a time. The memory of the check is kept by the device (device.h).
#pragma once

#include <cstddef>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/cuda/device.h"

namespace muster::cuda {

struct HealthOptions {
  size_t memory_bytes = size_t{256} << 20;  // written, read and copied; at least 8 KiB
  int rounds = 4096;                        // of arithmetic, by every thread
  double least_bytes_per_second = 0;        // of a copy in its memory, reading and writing; 0: any
  Duration timeout = std::chrono::seconds(10);  // of each part of the check
};

struct Health {
  double bytes_per_second = 0;  // of a copy, reading and writing
};

// Errors: kDataLoss (memory or arithmetic is wrong), kFailedPrecondition (too slow), kDeadlineExceeded, kResourceExhausted, kInternal (the
// driver's): all name the device and what it did.
Result<Health> CheckHealth(Device& device, const HealthOptions& options = {});

}  // namespace muster::cuda
