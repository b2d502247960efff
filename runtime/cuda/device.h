// Device: one GPU as a worker uses it: memory, streams, events, kernels.
//
// What is made here lives as long as the Device and is freed with it, never before: freeing waits for all that the device does, and
// that may be a collective which is stuck. So memory is asked for once, at the start, and the step path neither allocates nor frees.
//
// Threading: every thread calls Use() before anything else here; then safe from any thread. Ownership: as above; a Device must
// outlive whatever uses its memory.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/cuda/block.h"
#include "runtime/cuda/driver.h"

namespace muster::cuda {

struct DeviceFacts {
  int ordinal = 0;
  std::string name;    // "NVIDIA H100 80GB HBM3"
  std::string bus_id;  // "0000:1B:00.0", as in the kernel's log
  Uuid uuid = {};
  size_t memory_bytes = 0;
  int compute_capability = 0;  // 10 x major + minor

  // "cuda:0 (NVIDIA H100 80GB HBM3, 79 GiB)"
  std::string ToString() const;
};

// The GPUs that the driver shows to this process. Errors: those of Driver::Load.
Result<std::vector<DeviceFacts>> ListDevices();

// A program for the GPU, as tools of the CUDA toolkit make it: what muster_kernels() in CMake embeds.
struct KernelImage {
  const char* name = "";  // for messages
  const unsigned char* data = nullptr;
};

class Device {
 public:
  // Errors: those of Driver::Load, kNotFound (no such device), kResourceExhausted (no memory for a context).
  static Result<std::unique_ptr<Device>> Open(int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceFacts& facts() const { return facts_; }
  const Driver& driver() const { return driver_; }

  // Makes this the device of the calling thread.
  Status Use() const { return driver_.Do(driver_.ctx_set_current, context_); }

  // Memory of the device, aligned to 256 bytes, its content undefined. Errors: kResourceExhausted.
  Result<DevicePointer> Allocate(size_t bytes);
  // Memory of the host that the device copies from and to without a detour. Errors: kResourceExhausted.
  Result<std::span<std::byte>> AllocateHost(size_t bytes);
  // Makes memory of the host such memory while what is returned lives, at most as long as the device; that takes a second for some GB.
  Result<std::shared_ptr<void>> Pin(std::span<std::byte> memory) const;
  // A queue of work that does not wait for other queues.
  Result<Stream> MakeStream();
  Result<Event> MakeEvent();
  // Kernel `name` of `image`. Errors: kFailedPrecondition (the image has nothing for this device).
  Result<Function> FindKernel(const KernelImage& image, const std::string& name);

  // --- Queued on `stream`; they return before it is done. Host memory must stay as it is until then. ---
  Status CopyIn(DevicePointer to, std::span<const std::byte> from, Stream stream) const;
  Status CopyOut(std::span<std::byte> to, DevicePointer from, Stream stream) const;
  Status Copy(DevicePointer to, DevicePointer from, size_t bytes, Stream stream) const;
  Status Zero(DevicePointer memory, size_t bytes, Stream stream) const;
  Status Record(Event event, Stream stream) const;
  Status Wait(Stream stream, Event event) const;  // what is queued from now on waits for the event
  // So many blocks of Block::kThreads. `arguments` is what the kernel takes, by value.
  template <typename Arguments>
  Status Launch(Function kernel, size_t blocks, const Arguments& arguments, Stream stream) const {
    void* parameters[] = {const_cast<Arguments*>(&arguments)};
    return LaunchWith(kernel, blocks, parameters, stream);
  }

  // So many threads, in whole blocks: the last ones may have nothing to do.
  template <typename Arguments>
  Status LaunchEach(Function kernel, size_t threads, const Arguments& arguments,
                    Stream stream) const {
    return Launch(kernel, (threads + Block::kThreads - 1) / Block::kThreads, arguments, stream);
  }

  // Whether all that was queued before `event` is done; does not block. Errors: kInternal, those of that work too.
  Result<bool> IsDone(Event event) const;
  // Blocks until it is. Errors: those of IsDone; kDeadlineExceeded, naming `what` was waited for.
  Status Await(Event event, std::string_view what, TimePoint deadline) const;
  // The same of all that is queued on `stream`, where `event` is recorded.
  Status AwaitAll(Stream stream, Event event, std::string_view what, TimePoint deadline) const;

 private:
  Device(const Driver& driver, DeviceFacts facts, Context context)
      : driver_(driver), facts_(std::move(facts)), context_(context) {}
  template <typename Handle>
  Result<Handle> Make(const LibraryFunction<Handle*, unsigned>& create, unsigned flags,
                      std::vector<Handle>& made);
  Status LaunchWith(Function kernel, size_t blocks, void** parameters, Stream stream) const;

  const Driver& driver_;
  const DeviceFacts facts_;
  const Context context_;

  std::mutex mutex_;  // guards what is to be freed
  std::vector<DevicePointer> memory_;
  std::vector<void*> host_memory_;
  std::vector<Stream> streams_;
  std::vector<Event> events_;
  std::vector<std::pair<const void*, Module>> modules_;  // by image
};

}  // namespace muster::cuda
