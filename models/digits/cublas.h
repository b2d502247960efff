// Blas: matrix products on a GPU by NVIDIA's cuBLAS, if it is installed, with settings under which equal inputs give equal bits.
// Source: cuBLAS 13 cublas_api.h, https://docs.nvidia.com/cuda/cublas.
//
// Threading: one thread. Ownership: the device outlives it; what cuBLAS has stays until the process ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/cuda/device.h"

struct cublasContext;

namespace muster {

// A row-major matrix in the memory of the device, or its transpose, as a factor.
struct DeviceFactor {
  const float* data = nullptr;
  int64_t columns = 0;  // of the matrix in memory
  bool transpose = false;
};

// What is used of cuBLAS, with int where it has enumerations.
struct BlasApi {
  using Handle = cublasContext*;
  template <typename... P>
  using F = LibraryFunction<P...>;

  // cublasOperation_t, cublasMath_t
  static constexpr int kAsItIs = 0;
  static constexpr int kTransposed = 1;
  static constexpr int kPedantic = 2;  // float32 throughout: no tensor cores with fewer bits

  F<Handle*> create{"cublasCreate_v2"};
  F<Handle, int*> get_version{"cublasGetVersion_v2"};
  F<Handle, cuda::Stream> set_stream{"cublasSetStream_v2"};
  F<Handle, void*, size_t> set_workspace{"cublasSetWorkspace_v2"};
  F<Handle, int> set_math_mode{"cublasSetMathMode"};
  F<Handle, int, int, int, int, int, const float*, const float*, int, const float*, int,
    const float*, float*, int>
      sgemm{"cublasSgemm_v2"};

  template <typename Act>
  void ForEach(Act act) {
    const auto all = [&](auto&... each) { (act(each), ...); };
    all(create, get_version, set_stream, set_workspace, set_math_mode, sgemm);
  }
};

class Blas {
 public:
  // Loads libcublas.so.13, or the library that the environment variable MUSTER_LIBCUBLAS names. Errors: kNotFound, kFailedPrecondition
  // (another one), kInternal.
  static Result<std::unique_ptr<Blas>> Create(cuda::Device& device);

  // cublasGetVersion: 130100 is 13.1.0.
  int version() const { return version_; }

  // Queues c [m, n] = a [m, k] x b [k, n] + beta x c on `stream`. Errors: kInternal.
  Status Multiply(int64_t m, int64_t n, int64_t k, DeviceFactor a, DeviceFactor b, float beta,
                  float* c, cuda::Stream stream);

 private:
  template <typename... P, typename... A>
  Status Do(const LibraryFunction<P...>& function, A... arguments) const;

  BlasApi api_;
  BlasApi::Handle handle_ = nullptr;
  cuda::DevicePointer workspace_ = 0;
  cuda::Stream stream_ = nullptr;  // the one that the handle has
  int version_ = 0;
};

}  // namespace muster
