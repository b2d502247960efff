// Our declarations of the driver's functions, against NVIDIA's.
#include "runtime/cuda/driver_api.h"

#include <cuda.h>
#include <gtest/gtest.h>

#include "tests/cuda/same_function.h"

namespace muster::cuda {
namespace {

#define COMPARE(ours, theirs) MUSTER_COMPARE(api.ours, theirs)

TEST(DriverApi, IsThatOfNvidiasHeader) {
  const DriverApi api;
  COMPARE(get_error_name, cuGetErrorName);
  COMPARE(get_error_string, cuGetErrorString);
  COMPARE(init, cuInit);
  COMPARE(driver_get_version, cuDriverGetVersion);
  COMPARE(device_get_count, cuDeviceGetCount);
  COMPARE(device_get, cuDeviceGet);
  COMPARE(device_get_name, cuDeviceGetName);
  COMPARE(device_get_pci_bus_id, cuDeviceGetPCIBusId);
  COMPARE(device_get_uuid, cuDeviceGetUuid);
  COMPARE(device_total_mem, cuDeviceTotalMem);
  COMPARE(device_get_attribute, cuDeviceGetAttribute);
  COMPARE(primary_ctx_retain, cuDevicePrimaryCtxRetain);
  COMPARE(primary_ctx_release, cuDevicePrimaryCtxRelease);
  COMPARE(ctx_set_current, cuCtxSetCurrent);
  COMPARE(module_load_data, cuModuleLoadData);
  COMPARE(module_unload, cuModuleUnload);
  COMPARE(module_get_function, cuModuleGetFunction);
  COMPARE(mem_alloc, cuMemAlloc);
  COMPARE(mem_free, cuMemFree);
  COMPARE(mem_host_alloc, cuMemHostAlloc);
  COMPARE(mem_free_host, cuMemFreeHost);
  COMPARE(mem_host_register, cuMemHostRegister);
  COMPARE(mem_host_unregister, cuMemHostUnregister);
  COMPARE(memcpy_to_device, cuMemcpyHtoDAsync);
  COMPARE(memcpy_to_host, cuMemcpyDtoHAsync);
  COMPARE(memcpy_in_device, cuMemcpyDtoDAsync);
  COMPARE(memset_d8, cuMemsetD8Async);
  COMPARE(stream_create, cuStreamCreate);
  COMPARE(stream_destroy, cuStreamDestroy);
  COMPARE(stream_wait_event, cuStreamWaitEvent);
  COMPARE(event_create, cuEventCreate);
  COMPARE(event_destroy, cuEventDestroy);
  COMPARE(event_record, cuEventRecord);
  COMPARE(event_query, cuEventQuery);
  COMPARE(launch_kernel, cuLaunchKernel);
}

TEST(DriverApi, HasTheNumbersOfNvidiasHeader) {
  EXPECT_EQ(kSuccess, CUDA_SUCCESS);
  EXPECT_EQ(kInvalidValue, CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(kNoDevice, CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(kInvalidDevice, CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(kNotFound, CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(kNotReady, CUDA_ERROR_NOT_READY);
  EXPECT_EQ(kComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(kComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  EXPECT_EQ(kStreamNonBlocking, static_cast<unsigned>(CU_STREAM_NON_BLOCKING));
  EXPECT_EQ(kEventDisableTiming, static_cast<unsigned>(CU_EVENT_DISABLE_TIMING));
}

}  // namespace
}  // namespace muster::cuda
