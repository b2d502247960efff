// SharedLibrary: a library that is looked for when the program runs, so that one binary works with and without it.
//
// Threading: const methods are safe from several threads. Ownership: a library that was opened stays loaded until the process ends.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

class SharedLibrary {
 public:
  // The first of `names` that can be loaded: file names, for which the loader looks in its usual places, or paths.
  // Errors: kNotFound, with what the loader says of the first.
  static Result<SharedLibrary> Open(const std::vector<std::string>& names);

  // The address of a function; null if there is none of that name.
  void* Find(const std::string& symbol) const;
  const std::string& name() const { return name_; }

 private:
  SharedLibrary(std::string name, void* handle) : name_(std::move(name)), handle_(handle) {}

  std::string name_;
  void* handle_;
};

// A function of a library that returns a number which is 0 if all went well, and where to find it.
template <typename... P>
struct LibraryFunction {
  const char* symbol;
  int (*call)(P...) = nullptr;

  void FindIn(const SharedLibrary& library) {
    call = reinterpret_cast<int (*)(P...)>(library.Find(symbol));
  }
};

// Finds the functions that `api.ForEach` goes through; false if one of them is missing.
template <typename Api>
bool FindFunctions(const SharedLibrary& library, Api& api) {
  bool complete = true;
  api.ForEach([&](auto& function) {
    function.FindIn(library);
    complete = complete && function.call != nullptr;
  });
  return complete;
}

}  // namespace muster
