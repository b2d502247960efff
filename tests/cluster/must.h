// Must: the answer of a call that must succeed, for tests of what speaks to a real API server.
//
// Threading: none.
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "runtime/base/status.h"

namespace muster {

template <typename T>
T Must(Result<T> result) {
  if (!result) ADD_FAILURE() << result.error().message;
  return result ? std::move(*result) : T{};
}

}  // namespace muster
