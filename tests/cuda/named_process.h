// How a test tells one process of many that its stand-in shall fail: the process's id in a file that an environment variable names.
//
// Threading: safe from any thread.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace muster {

// Whether the file that `variable` names has the id of this process.
inline bool IsNamedIn(const char* variable) {
  const char* path = std::getenv(variable);
  std::FILE* file = path != nullptr ? std::fopen(path, "r") : nullptr;
  if (file == nullptr) return false;
  int pid = 0;
  const bool named = std::fscanf(file, "%d", &pid) == 1 && pid == ::getpid();
  std::fclose(file);
  return named;
}

}  // namespace muster
