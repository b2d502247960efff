#include "models/digits/cublas.h"

#include <cstdlib>
#include <utility>

namespace muster {

namespace {

constexpr int kLeastVersion = 130000;
// One of our own, always as large: what cuBLAS chooses depends on it. 32 MiB is what NVIDIA recommends for Hopper.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

}  // namespace

template <typename... P, typename... A>
Status Blas::Do(const LibraryFunction<P...>& function, A... arguments) const {
  const int code = function.call(arguments...);
  if (code == 0) return {};
  return Err(Code::kInternal, "{}: cublasStatus_t {}", function.symbol, code);
}

Result<std::unique_ptr<Blas>> Blas::Create(cuda::Device& device) {
  const char* given = std::getenv("MUSTER_LIBCUBLAS");
  const auto library = SharedLibrary::Open({given != nullptr ? given : "libcublas.so.13"});
  if (!library) {
    return WithHint(Err(Code::kNotFound, "cuBLAS was not found ({})", library.error().message),
                    "install it, or name the file in MUSTER_LIBCUBLAS");
  }
  auto blas = std::make_unique<Blas>();
  const bool complete = FindFunctions(*library, blas->api_);
  if (!complete) {
    return WithHint(Err(Code::kFailedPrecondition, "{} is no cuBLAS 13", library->name()),
                    "install that, or name another file in MUSTER_LIBCUBLAS");
  }
  MUSTER_TRY(device.Use());
  MUSTER_TRY(blas->Do(blas->api_.create, &blas->handle_));
  MUSTER_TRY(blas->Do(blas->api_.get_version, blas->handle_, &blas->version_));
  if (blas->version_ < kLeastVersion) {
    return Err(Code::kFailedPrecondition, "{} is cuBLAS {}, digits needs {}", library->name(),
               blas->version_, kLeastVersion);
  }
  MUSTER_TRY(blas->Do(blas->api_.set_math_mode, blas->handle_, BlasApi::kPedantic));
  MUSTER_ASSIGN(blas->workspace_, device.Allocate(kWorkspaceBytes));
  return blas;
}

// Theirs are column-major, where our matrices are their own transposes: c' = b' x a'.
Status Blas::Multiply(int64_t m, int64_t n, int64_t k, DeviceFactor a, DeviceFactor b, float beta,
                      float* c, cuda::Stream stream) {
  if (stream != stream_) {
    MUSTER_TRY(Do(api_.set_stream, handle_, stream));
    // A change of the stream takes the workspace away.
    MUSTER_TRY(Do(api_.set_workspace, handle_, cuda::PointerOf<void>(workspace_), kWorkspaceBytes));
    stream_ = stream;
  }
  const float alpha = 1;
  const auto operation = [](const DeviceFactor& factor) {
    return factor.transpose ? BlasApi::kTransposed : BlasApi::kAsItIs;
  };
  const auto extent = [](int64_t value) { return static_cast<int>(value); };
  return Do(api_.sgemm, handle_, operation(b), operation(a), extent(n), extent(m), extent(k),
            &alpha, b.data, extent(b.columns), a.data, extent(a.columns), &beta, c, extent(n));
}

}  // namespace muster
