// The part of the CUDA driver API that Muster uses, as libcuda.so.1 has it: declared here, so that everything builds without a CUDA
// toolkit. tests/cuda/driver_api_test.cc compares it with NVIDIA's header where that is installed.
// Source: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api; names ending in _v2 are those that its header redirects to.
//
// Threading: plain declarations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/base/shared_library.h"

struct CUctx_st;
struct CUmod_st;
struct CUfunc_st;
struct CUstream_st;
struct CUevent_st;

namespace muster::cuda {

using Context = CUctx_st*;
using Module = CUmod_st*;
using Function = CUfunc_st*;
using Stream = CUstream_st*;
using Event = CUevent_st*;
using DevicePointer = unsigned long long;  // CUdeviceptr

// CUuuid: of a GPU, or of a part of one, on any machine.
struct Uuid {
  char bytes[16] = {};
  bool operator==(const Uuid&) const = default;
};

// The address as kernels and libraries take it: only the device can follow it.
template <typename T>
T* PointerOf(DevicePointer memory) {
  // The driver has integers. NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<T*>(memory);
}

template <typename T>
DevicePointer AddressOf(const T* memory) {
  return reinterpret_cast<DevicePointer>(memory);
}

// CUresult
inline constexpr int kSuccess = 0;
inline constexpr int kInvalidValue = 1;
inline constexpr int kOutOfMemory = 2;
inline constexpr int kNoDevice = 100;
inline constexpr int kInvalidDevice = 101;
inline constexpr int kNotFound = 500;
inline constexpr int kNotReady = 600;
// CUdevice_attribute
inline constexpr int kComputeCapabilityMajor = 75;
inline constexpr int kComputeCapabilityMinor = 76;
// CUstream_flags and CUevent_flags
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;

struct DriverApi {
  template <typename... P>
  using F = LibraryFunction<P...>;

  F<int, const char**> get_error_name{"cuGetErrorName"};
  F<int, const char**> get_error_string{"cuGetErrorString"};
  F<unsigned> init{"cuInit"};
  F<int*> driver_get_version{"cuDriverGetVersion"};
  F<int*> device_get_count{"cuDeviceGetCount"};
  F<int*, int> device_get{"cuDeviceGet"};
  F<char*, int, int> device_get_name{"cuDeviceGetName"};
  F<char*, int, int> device_get_pci_bus_id{"cuDeviceGetPCIBusId"};
  F<Uuid*, int> device_get_uuid{"cuDeviceGetUuid_v2"};
  F<size_t*, int> device_total_mem{"cuDeviceTotalMem_v2"};
  F<int*, int, int> device_get_attribute{"cuDeviceGetAttribute"};
  F<Context*, int> primary_ctx_retain{"cuDevicePrimaryCtxRetain"};
  F<int> primary_ctx_release{"cuDevicePrimaryCtxRelease_v2"};
  F<Context> ctx_set_current{"cuCtxSetCurrent"};
  F<Module*, const void*> module_load_data{"cuModuleLoadData"};
  F<Module> module_unload{"cuModuleUnload"};
  F<Function*, Module, const char*> module_get_function{"cuModuleGetFunction"};
  F<DevicePointer*, size_t> mem_alloc{"cuMemAlloc_v2"};
  F<DevicePointer> mem_free{"cuMemFree_v2"};
  F<void**, size_t, unsigned> mem_host_alloc{"cuMemHostAlloc"};
  F<void*> mem_free_host{"cuMemFreeHost"};
  F<void*, size_t, unsigned> mem_host_register{"cuMemHostRegister_v2"};
  F<void*> mem_host_unregister{"cuMemHostUnregister"};
  F<DevicePointer, const void*, size_t, Stream> memcpy_to_device{"cuMemcpyHtoDAsync_v2"};
  F<void*, DevicePointer, size_t, Stream> memcpy_to_host{"cuMemcpyDtoHAsync_v2"};
  F<DevicePointer, DevicePointer, size_t, Stream> memcpy_in_device{"cuMemcpyDtoDAsync_v2"};
  F<DevicePointer, unsigned char, size_t, Stream> memset_d8{"cuMemsetD8Async"};
  F<Stream*, unsigned> stream_create{"cuStreamCreate"};
  F<Stream> stream_destroy{"cuStreamDestroy_v2"};
  F<Stream, Event, unsigned> stream_wait_event{"cuStreamWaitEvent"};
  F<Event*, unsigned> event_create{"cuEventCreate"};
  F<Event> event_destroy{"cuEventDestroy_v2"};
  F<Event, Stream> event_record{"cuEventRecord"};
  F<Event> event_query{"cuEventQuery"};
  F<Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**,
    void**>
      launch_kernel{"cuLaunchKernel"};

  // Calls `act` with every function.
  template <typename Act>
  void ForEach(Act act) {
    const auto all = [&](auto&... each) { (act(each), ...); };
    all(get_error_name, get_error_string, init, driver_get_version, device_get_count, device_get,
        device_get_name, device_get_pci_bus_id, device_get_uuid, device_total_mem,
        device_get_attribute, primary_ctx_retain, primary_ctx_release, ctx_set_current,
        module_load_data, module_unload, module_get_function, mem_alloc, mem_free, mem_host_alloc,
        mem_free_host, mem_host_register, mem_host_unregister, memcpy_to_device, memcpy_to_host,
        memcpy_in_device, memset_d8, stream_create, stream_destroy, stream_wait_event, event_create,
        event_destroy, event_record, event_query, launch_kernel);
  }
};

}  // namespace muster::cuda
