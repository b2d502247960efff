// Driver and Device, against the driver of standin_driver.cc.
#include "runtime/cuda/device.h"

#include <gmock/gmock.h>

#include <cstring>

#include "runtime/train/cuda/step_image.h"
#include "runtime/train/cuda/step_kernels.h"
#include "tests/cuda/standins.h"

namespace muster::cuda {
namespace {

using testing::HasSubstr;

constexpr int kEccUncorrectable = 214;

void Hold(bool hold) { ToDriver<decltype(standin_hold)>("standin_hold")(hold ? 1 : 0); }

std::unique_ptr<Device> OpenDevice() {
  auto device = Device::Open(0);
  EXPECT_TRUE(device) << device.error().ToString();
  return std::move(*device);
}

TimePoint Soon() { return MonotonicNow() + std::chrono::seconds(30); }

TEST(Device, TellsWhatItIs) {
  const auto devices = ListDevices();
  ASSERT_TRUE(devices) << devices.error().ToString();
  ASSERT_EQ(devices->size(), 1U);
  EXPECT_EQ(devices->front().ToString(), "cuda:0 (stand-in GPU, 1 GiB)");
  EXPECT_EQ(devices->front().compute_capability, 90);
}

TEST(Device, RefusesOneThatIsNotThere) {
  const auto device = Device::Open(3);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().message, "there is no device cuda:3, this process sees 1 GPU");
}

TEST(Device, SaysWhoseMemoryIsFull) {
  const auto device = OpenDevice();
  const auto memory = device->Allocate(size_t{2} << 30);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Code::kResourceExhausted);
  EXPECT_THAT(memory.error().message, HasSubstr("2048 MiB on cuda:0"));
}

TEST(Device, FreesWhatItHasGivenOut) {
  const auto in_use = ToDriver<decltype(standin_memory_in_use)>("standin_memory_in_use");
  {
    const auto device = OpenDevice();
    ASSERT_TRUE(device->Allocate(1000));
    ASSERT_TRUE(device->MakeStream());
    ASSERT_TRUE(device->MakeEvent());
    EXPECT_EQ(in_use(), 1000U);
  }
  EXPECT_EQ(in_use(), 0U);
}

TEST(Device, WorksLaterThanItIsAsked) {
  const auto device = OpenDevice();
  const Stream stream = *device->MakeStream();
  const Stream other = *device->MakeStream();
  const Event copied = *device->MakeEvent();
  const Event came_back = *device->MakeEvent();
  const DevicePointer memory = *device->Allocate(4096);
  const auto in = *device->AllocateHost(4096);
  const auto out = *device->AllocateHost(4096);
  std::ranges::fill(in, std::byte{7});
  Hold(true);
  ASSERT_TRUE(device->CopyIn(memory, in, stream));
  ASSERT_TRUE(device->Record(copied, stream));
  ASSERT_TRUE(device->Wait(other, copied));
  ASSERT_TRUE(device->CopyOut(out, memory, other));
  ASSERT_TRUE(device->Record(came_back, other));
  EXPECT_FALSE(*device->IsDone(came_back));
  const Status late = device->Await(came_back, "the copy", MonotonicNow());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::kDeadlineExceeded);
  EXPECT_THAT(late.error().message, HasSubstr("the copy on cuda:0"));
  Hold(false);
  ASSERT_TRUE(device->Await(came_back, "the copy", Soon()));
  EXPECT_EQ(out[4095], std::byte{7});
}

TEST(Device, RunsKernels) {
  const auto device = OpenDevice();
  const Stream stream = *device->MakeStream();
  const Event done = *device->MakeEvent();
  const auto kernel = device->FindKernel(kStepKernels, "raise_exponents");
  ASSERT_TRUE(kernel) << kernel.error().ToString();
  const auto host = *device->AllocateHost(2 * sizeof(int16_t));
  auto* exponents = reinterpret_cast<int16_t*>(host.data());
  exponents[0] = 3;
  exponents[1] = 9;
  const DevicePointer memory = *device->Allocate(host.size());
  ASSERT_TRUE(device->CopyIn(memory, host, stream));
  auto* of_device = PointerOf<int16_t>(memory);
  ASSERT_TRUE(device->Launch(*kernel, 1, RaiseArguments{of_device, of_device + 1, 1}, stream));
  ASSERT_TRUE(device->CopyOut(host, memory, stream));
  ASSERT_TRUE(device->Record(done, stream));
  ASSERT_TRUE(device->Await(done, "the kernel", Soon()));
  EXPECT_EQ(exponents[0], 9);
}

// Whether the driver of a GPU takes them, only one can show.
TEST(Device, IsGivenKernelsThatWereCompiled) {
  constexpr uint32_t kFatbinMagic = 0xba55ed50;
  uint32_t magic = 0;
  std::memcpy(&magic, kStepKernels.data, sizeof magic);
  if (magic != kFatbinMagic) GTEST_SKIP() << "built without nvcc: make kernels installs it";
}

TEST(Device, NamesAKernelThatIsNotThere) {
  const auto device = OpenDevice();
  const auto kernel = device->FindKernel(kStepKernels, "no_such_kernel");
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().message, HasSubstr("CUDA_ERROR_NOT_FOUND"));
}

// The last test: what has failed so stays failed.
TEST(DeviceThatBreaks, SaysSoWhenItIsAskedForResults) {
  const auto device = OpenDevice();
  const Stream stream = *device->MakeStream();
  const Event done = *device->MakeEvent();
  const DevicePointer memory = *device->Allocate(64);
  ToDriver<decltype(standin_fail)>("standin_fail")(kEccUncorrectable);
  Hold(true);
  ASSERT_TRUE(device->Zero(memory, 64, stream));
  ASSERT_TRUE(device->Record(done, stream));
  Hold(false);
  const Status answer = device->Await(done, "clearing", Soon());
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("cuda:0 (stand-in GPU, 1 GiB): "
                                                "CUDA_ERROR_ECC_UNCORRECTABLE"));
}

}  // namespace
}  // namespace muster::cuda
