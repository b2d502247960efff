// cuBLAS for machines without a GPU: libcublas as MUSTER_LIBCUBLAS may name it, on the memory and streams of standin_driver.cc.
#include <cstddef>
#include <cstdlib>
#include <deque>

#include "runtime/base/shared_library.h"
#include "tests/cuda/standin_driver.h"

struct cublasContext {
  CUstream_st* stream = nullptr;
};

namespace {

constexpr int kInvalidValue = 7;
constexpr int kExecutionFailed = 13;

// c [m, n] = alpha x a [m, k] x b [k, n] + beta x c, all of them column-major.
struct Product {
  bool transpose_a, transpose_b;
  size_t m, n, k;
  float alpha;
  const float* a;
  size_t lda;
  const float* b;
  size_t ldb;
  float beta;
  float* c;
  size_t ldc;

  void Compute() const {
    for (size_t column = 0; column < n; ++column) {
      for (size_t row = 0; row < m; ++row) {
        float sum = 0;
        for (size_t i = 0; i < k; ++i) {
          sum += (transpose_a ? a[row * lda + i] : a[i * lda + row]) *
                 (transpose_b ? b[i * ldb + column] : b[column * ldb + i]);
        }
        float& element = c[column * ldc + row];
        element = alpha * sum + (beta != 0 ? beta * element : 0);
      }
    }
  }
};

void Run(void* of) {
  auto* product = static_cast<Product*>(of);
  product->Compute();
  delete product;
}

auto Queue() {
  static const auto driver = muster::SharedLibrary::Open({std::getenv("MUSTER_LIBCUDA")});
  return reinterpret_cast<decltype(&standin_queue)>(driver ? driver->Find("standin_queue")
                                                           : nullptr);
}

}  // namespace

extern "C" {

int cublasCreate_v2(cublasContext** handle) {
  static std::deque<cublasContext> handles;  // until the process ends
  *handle = &handles.emplace_back();
  return 0;
}

int cublasGetVersion_v2(cublasContext*, int* version) {
  const char* given = std::getenv("MUSTER_STANDIN_CUBLAS_VERSION");
  *version = given != nullptr ? std::atoi(given) : 130100;
  return 0;
}

int cublasSetStream_v2(cublasContext* handle, CUstream_st* stream) {
  handle->stream = stream;
  return 0;
}

int cublasSetWorkspace_v2(cublasContext*, void* workspace, size_t) {
  return workspace == nullptr ? kInvalidValue : 0;
}

int cublasSetMathMode(cublasContext*, int) { return 0; }

int cublasSgemm_v2(cublasContext* handle, int operation_a, int operation_b, int m, int n, int k,
                   const float* alpha, const float* a, int lda, const float* b, int ldb,
                   const float* beta, float* c, int ldc) {
  if (m <= 0 || n <= 0 || k <= 0) return kInvalidValue;
  const auto extent = [](int value) { return static_cast<size_t>(value); };
  auto* product = new Product{operation_a != 0,
                              operation_b != 0,
                              extent(m),
                              extent(n),
                              extent(k),
                              *alpha,
                              a,
                              extent(lda),
                              b,
                              extent(ldb),
                              *beta,
                              c,
                              extent(ldc)};
  return Queue()(handle->stream, Run, product) == 0 ? 0 : kExecutionFailed;
}

}  // extern "C"
