// A CUDA driver for machines without a GPU: libcuda as MUSTER_LIBCUDA may name it. Device memory is host memory, kernels are the same
// programs of blocks compiled for the CPU (runtime/cuda/block.h), and a stream is a thread, so that work is done later than it is
// queued, as on a GPU. What a test wants of it: standin_driver.h.
#include "tests/cuda/standin_driver.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "models/digits/mlp_kernels.h"
#include "runtime/cuda/driver_api.h"
#include "runtime/cuda/health_kernels.h"
#include "runtime/cuda/kernel.h"
#include "runtime/train/cuda/step_kernels.h"
#include "tests/cuda/named_process.h"
#include "tests/cuda/ptx.h"

using muster::IsNamedIn;
using muster::cuda::Context;
using muster::cuda::DevicePointer;
using muster::cuda::Event;
using muster::cuda::Function;
using muster::cuda::HostKernel;
using muster::cuda::Module;
using muster::cuda::PointerOf;
using muster::cuda::Stream;
using muster::cuda::Uuid;

namespace {

constexpr size_t kMemory = size_t{1} << 30;
constexpr size_t kAlignment = 256;
constexpr unsigned char kGarbage = 0xA5;  // what fresh memory holds

constexpr int kLaunchFailed = 719;  // CUDA_ERROR_LAUNCH_FAILED
constexpr int kNotInitialized = 3;
constexpr int kEccUncorrectable = 214;
constexpr int kAlreadyRegistered = 712;
constexpr int kNotRegistered = 713;

// As a driver has it.
struct Kernel {
  std::string name;
  size_t argument_bytes = 0;
  std::function<void(size_t block, const void* arguments)> run;
};
using Kernels = std::map<std::string, Kernel>;

Kernels ProgramsOfBlocks() {
  Kernels kernels;
  for (const HostKernel& kernel : {MUSTER_STEP_KERNELS(MUSTER_HOST_KERNEL) MUSTER_HEALTH_KERNELS(
           MUSTER_HOST_KERNEL) MUSTER_MLP_KERNELS(MUSTER_HOST_KERNEL)}) {
    kernels[kernel.name] = {kernel.name, kernel.argument_bytes, kernel.run};
  }
  return kernels;
}

Kernels KernelsOf(std::string_view ptx) {
  Kernels kernels;
  for (const auto& [name, kernel] : muster::ptx::Parse(ptx)) {
    kernels[name] = {name, kernel.argument_bytes,
                     [kernel](size_t block, const void* with) { kernel.Run(block, with); }};
  }
  return kernels;
}

int Setting(const char* name, int otherwise) {
  const char* given = std::getenv(name);
  return given != nullptr ? std::atoi(given) : otherwise;
}

// What the tests have asked for.
thread_local int current_device = 0;

std::mutex wishes_mutex;
std::condition_variable wishes_changed;
int held = kStandinHoldNothing;
std::string spoiled_kernel;
std::atomic<int> error_to_come{0};
std::atomic<int> sticky_error{0};  // of the context: once something has failed, everything does

// The moment at which the work queued before it is done.
struct Moment {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;

  void Reach() {
    std::lock_guard lock(mutex);
    reached = true;
    changed.notify_all();
  }
  void Await() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return reached; });
  }
  bool Reached() {
    std::lock_guard lock(mutex);
    return reached;
  }
};

std::mutex memory_mutex;
std::map<DevicePointer, size_t> memory;
std::map<DevicePointer, size_t> pinned;  // of the host

// A bit of what this kernel has written turns over. Its output is the first thing in its arguments.
void SpoilIfWanted(const std::string& kernel, const void* arguments, int device) {
  std::lock_guard lock(wishes_mutex);
  const bool sick = device == Setting("MUSTER_STANDIN_SICK", -1) && kernel == "health_write";
  if (kernel != spoiled_kernel && !sick) return;
  spoiled_kernel.clear();
  unsigned char* output = nullptr;
  std::memcpy(&output, arguments, sizeof output);
  output[1000] ^= 4;
}

void AwaitLetGo(StandinHold hold) {
  std::unique_lock lock(wishes_mutex);
  wishes_changed.wait(lock, [hold] { return held != hold; });
}

}  // namespace

struct CUevent_st {
  std::mutex mutex;
  std::shared_ptr<Moment> moment;  // null: never recorded, and so done
};

struct CUstream_st {
  const int device = current_device;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool ends = false;
  std::thread thread{[this] { Run(); }};

  int Queue(std::function<void()> one) {
    if (sticky_error != 0) return sticky_error;
    std::lock_guard lock(mutex);
    work.push_back(std::move(one));
    changed.notify_all();
    return 0;
  }

  // The same of a copy or a kernel, which are not done any more once something has failed.
  template <typename Work>
  int QueueWork(Work work) {
    return Queue([work = std::move(work)] {
      if (sticky_error == 0) work();
    });
  }

  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return ends || !work.empty(); });
      if (work.empty()) return;
      const auto one = std::move(work.front());
      work.pop_front();
      lock.unlock();
      AwaitLetGo(kStandinHoldAll);
      if (const int error = error_to_come.exchange(0)) sticky_error = error;
      if (IsNamedIn("MUSTER_STANDIN_FAIL_FILE")) sticky_error = kEccUncorrectable;
      one();
      lock.lock();
    }
  }

  void End() {
    {
      std::lock_guard lock(mutex);
      ends = true;
      changed.notify_all();
    }
    thread.join();
  }
};

extern "C" {

// --- For tests ---

void standin_hold(int hold) {
  std::lock_guard lock(wishes_mutex);
  held = hold;
  wishes_changed.notify_all();
}

void standin_fail(int code) { error_to_come = code; }

void standin_spoil(const char* kernel) {
  std::lock_guard lock(wishes_mutex);
  spoiled_kernel = kernel;
}

int standin_queue(Stream stream, void (*act)(void*), void* with) {
  return stream->Queue([act, with] { act(with); });
}

size_t standin_memory_in_use() {
  std::lock_guard lock(memory_mutex);
  size_t bytes = 0;
  for (const auto& [pointer, size] : memory) bytes += size;
  return bytes;
}

// --- The driver ---

int cuGetErrorName(int code, const char** name) {
  static const std::map<int, const char*> names = {
      {1, "CUDA_ERROR_INVALID_VALUE"},      {2, "CUDA_ERROR_OUT_OF_MEMORY"},
      {3, "CUDA_ERROR_NOT_INITIALIZED"},    {100, "CUDA_ERROR_NO_DEVICE"},
      {101, "CUDA_ERROR_INVALID_DEVICE"},   {500, "CUDA_ERROR_NOT_FOUND"},
      {600, "CUDA_ERROR_NOT_READY"},        {719, "CUDA_ERROR_LAUNCH_FAILED"},
      {214, "CUDA_ERROR_ECC_UNCORRECTABLE"}};
  const auto found = names.find(code);
  if (found == names.end()) return muster::cuda::kInvalidValue;
  *name = found->second;
  return 0;
}

int cuGetErrorString(int code, const char** text) {
  *text = code == muster::cuda::kOutOfMemory ? "out of memory" : "as the stand-in was told";
  return 0;
}

int cuInit(unsigned) {
  return Setting("MUSTER_STANDIN_GPUS", 1) == 0 ? muster::cuda::kNoDevice : 0;
}

int cuDriverGetVersion(int* version) {
  *version = Setting("MUSTER_STANDIN_CUDA_VERSION", 13000);
  return 0;
}

int cuDeviceGetCount(int* count) {
  *count = Setting("MUSTER_STANDIN_GPUS", 1);
  return 0;
}

int cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal >= Setting("MUSTER_STANDIN_GPUS", 1)) {
    return muster::cuda::kInvalidDevice;
  }
  *device = ordinal;
  return 0;
}

int cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, static_cast<size_t>(length), "stand-in GPU");
  return 0;
}

int cuDeviceGetPCIBusId(char* bus_id, int length, int device) {
  std::snprintf(bus_id, static_cast<size_t>(length), "0000:%02X:00.0", device);
  return 0;
}

int cuDeviceGetUuid_v2(Uuid* uuid, int device) {
  *uuid = {};
  std::snprintf(uuid->bytes, sizeof uuid->bytes, "stand-in %d", device);
  return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = kMemory;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == muster::cuda::kComputeCapabilityMajor ? 9 : 0;
  return 0;
}

int cuDevicePrimaryCtxRetain(Context* context, int device) {
  *context = PointerOf<std::remove_pointer_t<Context>>(static_cast<DevicePointer>(device) + 1);
  return 0;
}

int cuDevicePrimaryCtxRelease_v2(int) { return 0; }

int cuCtxSetCurrent(Context context) {
  if (context == nullptr) return kNotInitialized;
  current_device = static_cast<int>(reinterpret_cast<uintptr_t>(context)) - 1;
  return 0;
}

int cuModuleLoadData(Module* module, const void* image) {
  if (Setting("MUSTER_STANDIN_PTX", 0) == 0) {
    static Kernels of_all_images = ProgramsOfBlocks();
    *module = reinterpret_cast<Module>(&of_all_images);
    return 0;
  }
  static std::mutex mutex;
  static std::map<const void*, Kernels> compiled;
  std::lock_guard lock(mutex);
  if (!compiled.contains(image)) compiled[image] = KernelsOf(muster::ptx::TextIn(image));
  *module = reinterpret_cast<Module>(&compiled[image]);
  return 0;
}

int cuModuleUnload(Module) { return 0; }

int cuModuleGetFunction(Function* function, Module module, const char* name) {
  Kernels& kernels = *reinterpret_cast<Kernels*>(module);
  const auto kernel = kernels.find(name);
  if (kernel == kernels.end()) return muster::cuda::kNotFound;
  *function = reinterpret_cast<Function>(&kernel->second);
  return 0;
}

int cuMemAlloc_v2(DevicePointer* pointer, size_t bytes) {
  if (standin_memory_in_use() + bytes > kMemory) return muster::cuda::kOutOfMemory;
  void* allocated = nullptr;
  if (::posix_memalign(&allocated, kAlignment, bytes) != 0) return muster::cuda::kOutOfMemory;
  std::memset(allocated, kGarbage, bytes);
  *pointer = reinterpret_cast<DevicePointer>(allocated);
  std::lock_guard lock(memory_mutex);
  memory[*pointer] = bytes;
  return 0;
}

int cuMemFree_v2(DevicePointer pointer) {
  std::lock_guard lock(memory_mutex);
  if (memory.erase(pointer) == 0) return muster::cuda::kInvalidValue;
  std::free(PointerOf<void>(pointer));
  return 0;
}

int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  *pointer = std::calloc(bytes, 1);
  return 0;
}

int cuMemFreeHost(void* pointer) {
  std::free(pointer);
  return 0;
}

// Pages are not locked, but who forgets to unlock them, or does so twice, is told.
int cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned) {
  std::lock_guard lock(memory_mutex);
  const auto at = reinterpret_cast<DevicePointer>(pointer);
  const auto next = pinned.lower_bound(at);
  if (next != pinned.end() && next->first < at + bytes) return kAlreadyRegistered;
  if (next != pinned.begin() && std::prev(next)->first + std::prev(next)->second > at) {
    return kAlreadyRegistered;
  }
  pinned[at] = bytes;
  return 0;
}

int cuMemHostUnregister(void* pointer) {
  std::lock_guard lock(memory_mutex);
  return pinned.erase(reinterpret_cast<DevicePointer>(pointer)) == 1 ? 0 : kNotRegistered;
}

int cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t bytes, Stream stream) {
  return stream->QueueWork([=] { std::memcpy(PointerOf<void>(to), from, bytes); });
}

int cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t bytes, Stream stream) {
  return stream->QueueWork([=] {
    AwaitLetGo(kStandinHoldCopiesOut);
    std::memcpy(to, PointerOf<const void>(from), bytes);
  });
}

int cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t bytes, Stream stream) {
  return stream->QueueWork(
      [=] { std::memcpy(PointerOf<void>(to), PointerOf<const void>(from), bytes); });
}

int cuMemsetD8Async(DevicePointer to, unsigned char value, size_t bytes, Stream stream) {
  return stream->QueueWork([=] { std::memset(PointerOf<void>(to), value, bytes); });
}

int cuStreamCreate(Stream* stream, unsigned) {
  *stream = new CUstream_st;
  return 0;
}

int cuStreamDestroy_v2(Stream stream) {
  stream->End();
  delete stream;
  return 0;
}

int cuStreamWaitEvent(Stream stream, Event event, unsigned) {
  std::shared_ptr<Moment> moment;
  {
    std::lock_guard lock(event->mutex);
    moment = event->moment;
  }
  if (moment == nullptr) return 0;
  return stream->Queue([moment] { moment->Await(); });
}

int cuEventCreate(Event* event, unsigned) {
  *event = new CUevent_st;
  return 0;
}

int cuEventDestroy_v2(Event event) {
  delete event;
  return 0;
}

int cuEventRecord(Event event, Stream stream) {
  auto moment = std::make_shared<Moment>();
  {
    std::lock_guard lock(event->mutex);
    event->moment = moment;
  }
  return stream->Queue([moment] { moment->Reach(); });
}

int cuEventQuery(Event event) {
  if (sticky_error != 0) return sticky_error;
  std::lock_guard lock(event->mutex);
  return event->moment == nullptr || event->moment->Reached() ? 0 : muster::cuda::kNotReady;
}

int cuLaunchKernel(Function function, unsigned blocks, unsigned, unsigned, unsigned threads,
                   unsigned, unsigned, unsigned, Stream stream, void** parameters, void**) {
  const auto* kernel = reinterpret_cast<const Kernel*>(function);
  if (threads != muster::cuda::Block::kThreads) return kLaunchFailed;
  const auto* arguments = static_cast<const std::byte*>(parameters[0]);
  return stream->QueueWork([=, copy = std::vector(arguments, arguments + kernel->argument_bytes)] {
    for (unsigned block = 0; block < blocks; ++block) kernel->run(block, copy.data());
    SpoilIfWanted(kernel->name, copy.data(), stream->device);
  });
}

}  // extern "C"
