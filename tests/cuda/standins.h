// How a test talks to the stand-ins for the driver and for NCCL that this process has loaded.
//
//   ToDriver<decltype(standin_hold)>("standin_hold")(1);
//
// Threading: safe from any thread.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "runtime/base/shared_library.h"
#include "tests/cuda/standin_driver.h"
#include "tests/cuda/standin_nccl.h"

namespace muster {

// The function `name` of the library that the environment variable `library` names.
template <typename F>
F* StandinFunction(const char* library, const std::string& name) {
  const auto loaded = SharedLibrary::Open({std::getenv(library)});
  EXPECT_TRUE(loaded);
  return reinterpret_cast<F*>(loaded->Find(name));
}

template <typename F>
F* ToDriver(const std::string& name) {
  return StandinFunction<F>("MUSTER_LIBCUDA", name);
}

template <typename F>
F* ToNccl(const std::string& name) {
  return StandinFunction<F>("MUSTER_LIBNCCL", name);
}

}  // namespace muster
