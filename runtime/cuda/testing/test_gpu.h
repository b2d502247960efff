// TestGpu: a device as tests use it, one thing after the other: what they give it stays in its memory until the end of a test.
//
// Threading: one thread.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/time.h"
#include "runtime/cuda/device.h"

namespace muster {

class TestGpu {
 public:
  explicit TestGpu(std::unique_ptr<cuda::Device> device)
      : device_(std::move(device)), stream_(*device_->MakeStream()), done_(*device_->MakeEvent()) {}

  cuda::Device& device() { return *device_; }
  cuda::Stream stream() { return stream_; }

  // A copy of `values` on the device.
  template <typename T>
  T* Copy(const std::vector<T>& values) {
    const cuda::DevicePointer memory = *device_->Allocate(values.size() * sizeof(T));
    EXPECT_TRUE(device_->CopyIn(memory, std::as_bytes(std::span(values)), stream_));
    Await();
    return cuda::PointerOf<T>(memory);
  }

  template <typename T>
  std::vector<T> Back(const T* memory, size_t count) {
    std::vector<T> values(count);
    EXPECT_TRUE(device_->CopyOut(std::as_writable_bytes(std::span(values)), cuda::AddressOf(memory),
                                 stream_));
    Await();
    return values;
  }

  template <typename Arguments>
  void Run(const cuda::KernelImage& image, const std::string& name, size_t blocks,
           const Arguments& arguments) {
    const auto kernel = device_->FindKernel(image, name);
    ASSERT_TRUE(kernel) << kernel.error().ToString();
    ASSERT_TRUE(device_->Launch(*kernel, blocks, arguments, stream_));
  }

 private:
  void Await() {
    const Status done =
        device_->AwaitAll(stream_, done_, "a kernel", MonotonicNow() + std::chrono::minutes(1));
    ASSERT_TRUE(done) << done.error().ToString();
  }

  std::unique_ptr<cuda::Device> device_;
  cuda::Stream stream_;
  cuda::Event done_;
};

}  // namespace muster
