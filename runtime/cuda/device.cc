#include "runtime/cuda/device.h"

#include <algorithm>
#include <limits>
#include <thread>

namespace muster::cuda {

namespace {

constexpr int kTextBytes = 128;
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kPause = std::chrono::microseconds(20);

Result<DeviceFacts> FactsOf(const Driver& driver, int ordinal) {
  int device = 0;
  char name[kTextBytes] = {};
  char bus_id[kTextBytes] = {};
  int major = 0;
  int minor = 0;
  DeviceFacts facts;
  facts.ordinal = ordinal;
  MUSTER_TRY(driver.Do(driver.device_get, &device, ordinal));
  MUSTER_TRY(driver.Do(driver.device_get_name, name, kTextBytes - 1, device));
  MUSTER_TRY(driver.Do(driver.device_get_pci_bus_id, bus_id, kTextBytes - 1, device));
  MUSTER_TRY(driver.Do(driver.device_get_uuid, &facts.uuid, device));
  MUSTER_TRY(driver.Do(driver.device_total_mem, &facts.memory_bytes, device));
  MUSTER_TRY(driver.Do(driver.device_get_attribute, &major, kComputeCapabilityMajor, device));
  MUSTER_TRY(driver.Do(driver.device_get_attribute, &minor, kComputeCapabilityMinor, device));
  facts.name = name;
  facts.bus_id = bus_id;
  facts.compute_capability = 10 * major + minor;
  return facts;
}

}  // namespace

std::string DeviceFacts::ToString() const {
  return fmt::format("cuda:{} ({}, {:.0f} GiB)", ordinal, name,
                     static_cast<double>(memory_bytes) / (1 << 30));
}

Result<std::vector<DeviceFacts>> ListDevices() {
  MUSTER_ASSIGN(const Driver* driver, Driver::Load());
  int count = 0;
  MUSTER_TRY(driver->Do(driver->device_get_count, &count));
  std::vector<DeviceFacts> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    MUSTER_ASSIGN(devices.emplace_back(), FactsOf(*driver, ordinal));
  }
  return devices;
}

Result<std::unique_ptr<Device>> Device::Open(int ordinal) {
  MUSTER_ASSIGN(const Driver* driver, Driver::Load());
  int count = 0;
  MUSTER_TRY(driver->Do(driver->device_get_count, &count));
  if (ordinal < 0 || ordinal >= count) {
    return WithHint(Err(Code::kNotFound, "there is no device cuda:{}, this process sees {} GPU{}",
                        ordinal, count, count == 1 ? "" : "s"),
                    "launcher doctor lists them; CUDA_VISIBLE_DEVICES hides others");
  }
  MUSTER_ASSIGN(DeviceFacts facts, FactsOf(*driver, ordinal));
  int device = 0;
  Context context = nullptr;
  MUSTER_TRY(driver->Do(driver->device_get, &device, ordinal));
  MUSTER_TRY(driver->Do(driver->primary_ctx_retain, &context, device));
  std::unique_ptr<Device> opened(new Device(*driver, std::move(facts), context));
  MUSTER_TRY(opened->Use());
  return opened;
}

Device::~Device() {
  if (Use()) {
    for (const Stream stream : streams_) (void)driver_.Do(driver_.stream_destroy, stream);
    for (const Event event : events_) (void)driver_.Do(driver_.event_destroy, event);
    for (const auto& [image, module] : modules_) (void)driver_.Do(driver_.module_unload, module);
    for (const DevicePointer memory : memory_) (void)driver_.Do(driver_.mem_free, memory);
    for (void* memory : host_memory_) (void)driver_.Do(driver_.mem_free_host, memory);
  }
  int device = 0;
  if (driver_.Do(driver_.device_get, &device, facts_.ordinal)) {
    (void)driver_.Do(driver_.primary_ctx_release, device);
  }
}

Result<DevicePointer> Device::Allocate(size_t bytes) {
  DevicePointer memory = 0;
  if (Status allocated = driver_.Do(driver_.mem_alloc, &memory, std::max<size_t>(bytes, 1));
      !allocated) {
    return WithHint(Err(allocated.error().code, "{} MiB on {}: {}", bytes >> 20, facts_.ToString(),
                        allocated.error().message),
                    "nvidia-smi shows who uses its memory");
  }
  std::lock_guard lock(mutex_);
  memory_.push_back(memory);
  return memory;
}

Result<std::span<std::byte>> Device::AllocateHost(size_t bytes) {
  void* memory = nullptr;
  MUSTER_TRY(driver_.Do(driver_.mem_host_alloc, &memory, std::max<size_t>(bytes, 1), 0U));
  std::lock_guard lock(mutex_);
  host_memory_.push_back(memory);
  return std::span(static_cast<std::byte*>(memory), bytes);
}

Result<std::shared_ptr<void>> Device::Pin(std::span<std::byte> memory) const {
  MUSTER_TRY(Use());
  MUSTER_TRY(
      driver_.Do(driver_.mem_host_register, static_cast<void*>(memory.data()), memory.size(), 0U));
  return std::shared_ptr<void>(memory.data(), [this](void* pinned) {
    if (Use()) (void)driver_.Do(driver_.mem_host_unregister, pinned);
  });
}

template <typename Handle>
Result<Handle> Device::Make(const LibraryFunction<Handle*, unsigned>& create, unsigned flags,
                            std::vector<Handle>& made) {
  Handle handle = nullptr;
  MUSTER_TRY(driver_.Do(create, &handle, flags));
  std::lock_guard lock(mutex_);
  made.push_back(handle);
  return handle;
}

Result<Stream> Device::MakeStream() {
  return Make(driver_.stream_create, kStreamNonBlocking, streams_);
}

Result<Event> Device::MakeEvent() {
  return Make(driver_.event_create, kEventDisableTiming, events_);
}

Result<Function> Device::FindKernel(const KernelImage& image, const std::string& name) {
  std::lock_guard lock(mutex_);
  auto loaded =
      std::ranges::find(modules_, image.data, [](const auto& module) { return module.first; });
  if (loaded == modules_.end()) {
    Module module = nullptr;
    const int code = driver_.module_load_data.call(&module, image.data);
    if (code != kSuccess) {
      return WithHint(Err(Code::kFailedPrecondition,
                          "this build has no kernels of {} for {} (compute capability {}.{}): {}",
                          image.name, facts_.name, facts_.compute_capability / 10,
                          facts_.compute_capability % 10, driver_.TextOf(code)),
                      "tools/setup --cuda installs the compiler for them; then build again");
    }
    modules_.emplace_back(image.data, module);
    loaded = modules_.end() - 1;
  }
  Function kernel = nullptr;
  MUSTER_TRY(driver_.Do(driver_.module_get_function, &kernel, loaded->second, name.c_str()));
  return kernel;
}

Status Device::CopyIn(DevicePointer to, std::span<const std::byte> from, Stream stream) const {
  return driver_.Do(driver_.memcpy_to_device, to, static_cast<const void*>(from.data()),
                    from.size(), stream);
}

Status Device::CopyOut(std::span<std::byte> to, DevicePointer from, Stream stream) const {
  return driver_.Do(driver_.memcpy_to_host, static_cast<void*>(to.data()), from, to.size(), stream);
}

Status Device::Copy(DevicePointer to, DevicePointer from, size_t bytes, Stream stream) const {
  return driver_.Do(driver_.memcpy_in_device, to, from, bytes, stream);
}

Status Device::Zero(DevicePointer memory, size_t bytes, Stream stream) const {
  return driver_.Do(driver_.memset_d8, memory, static_cast<unsigned char>(0), bytes, stream);
}

Status Device::Record(Event event, Stream stream) const {
  return driver_.Do(driver_.event_record, event, stream);
}

Status Device::Wait(Stream stream, Event event) const {
  return driver_.Do(driver_.stream_wait_event, stream, event, 0U);
}

Status Device::LaunchWith(Function kernel, size_t blocks, void** parameters, Stream stream) const {
  if (blocks == 0) return {};
  if (blocks > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return Err(Code::kInvalidArgument, "{} blocks for a kernel", blocks);
  }
  return driver_.Do(driver_.launch_kernel, kernel, static_cast<unsigned>(blocks), 1U, 1U,
                    static_cast<unsigned>(Block::kThreads), 1U, 1U, 0U, stream, parameters,
                    nullptr);
}

Result<bool> Device::IsDone(Event event) const {
  const int code = driver_.event_query.call(event);
  if (code == kNotReady) return false;
  if (code == kSuccess) return true;
  return Err(Code::kInternal, "{}: {}", facts_.ToString(), driver_.TextOf(code));
}

Status Device::Await(Event event, std::string_view what, TimePoint deadline) const {
  const TimePoint start = MonotonicNow();
  while (true) {
    MUSTER_ASSIGN(const bool done, IsDone(event));
    if (done) return {};
    const TimePoint now = MonotonicNow();
    if (now > deadline) {
      return Err(Code::kDeadlineExceeded, "{} on {} has not ended within {:.1f} s", what,
                 facts_.ToString(), Seconds(now - start));
    }
    // Most of what is waited for takes less; what takes longer must not have a core to itself.
    if (now - start > kSpin) std::this_thread::sleep_for(kPause);
  }
}

Status Device::AwaitAll(Stream stream, Event event, std::string_view what,
                        TimePoint deadline) const {
  MUSTER_TRY(Record(event, stream));
  return Await(event, what, deadline);
}

}  // namespace muster::cuda
