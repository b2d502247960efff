// Our declarations of cuBLAS's functions, against NVIDIA's.
#include <cublas_v2.h>
#include <gtest/gtest.h>

#include "models/digits/cublas.h"
#include "tests/cuda/same_function.h"

namespace muster {
namespace {

#define COMPARE(ours, theirs) MUSTER_COMPARE(api.ours, theirs)

TEST(CublasApi, IsThatOfNvidiasHeader) {
  const BlasApi api;
  COMPARE(create, cublasCreate);
  COMPARE(get_version, cublasGetVersion);
  COMPARE(set_stream, cublasSetStream);
  COMPARE(set_workspace, cublasSetWorkspace);
  COMPARE(set_math_mode, cublasSetMathMode);
  COMPARE(sgemm, cublasSgemm);
  EXPECT_EQ(BlasApi::kAsItIs, CUBLAS_OP_N);
  EXPECT_EQ(BlasApi::kTransposed, CUBLAS_OP_T);
  EXPECT_EQ(BlasApi::kPedantic, CUBLAS_PEDANTIC_MATH);
}

}  // namespace
}  // namespace muster
