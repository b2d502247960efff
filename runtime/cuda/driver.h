// Driver: NVIDIA's driver, if this machine has one. Everything that Muster does on a GPU goes through it; the CUDA runtime library is not
// needed, and a program that finds no driver runs on the CPU.
//
// Threading: safe from any thread.
#pragma once

#include <string>

#include "runtime/base/status.h"
#include "runtime/cuda/driver_api.h"

namespace muster::cuda {

// CUDA 13.0, that of the toolkit which compiles our kernels: an older driver does not load them.
inline constexpr int kLeastVersion = 13000;

class Driver : public DriverApi {
 public:
  // Loads libcuda.so.1, or the library that the environment variable MUSTER_LIBCUDA names, and initialises it: once in a process, with
  // one answer for all. Errors: kNotFound (no driver, or no GPU that it could drive), kFailedPrecondition (the driver is too
  // old, or does not work).
  static Result<const Driver*> Load();

  // Calls a function of the driver. Errors: kResourceExhausted (out of memory), kInternal: with the driver's own text.
  template <typename... P, typename... A>
  Status Do(const LibraryFunction<P...>& function, A... arguments) const {
    const int code = function.call(arguments...);
    if (code == kSuccess) return {};
    return Failed(function.symbol, code);
  }

  // "CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected"
  std::string TextOf(int code) const;

  int version() const {
    return version_;
  }  // 1000 x major + 10 x minor, of the CUDA that it supports

 private:
  Driver() = default;
  static Result<Driver> LoadOnce();
  tl::unexpected<Error> Failed(const char* symbol, int code) const;

  int version_ = 0;
};

// "13.0" of 13000.
std::string VersionText(int version);

}  // namespace muster::cuda
