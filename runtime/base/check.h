// MUSTER_CHECK: aborts the process, naming the place, when an invariant of ours does not hold. For programmer errors
// only; an operating error is returned as a Status. Always on, in release builds too.
#pragma once

#include <fmt/format.h>

#include <string>

namespace muster {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& message);

}  // namespace muster

#define MUSTER_CHECK(condition, ...)                                                        \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::muster::CheckFailed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
