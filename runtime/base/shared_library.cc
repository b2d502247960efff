#include "runtime/base/shared_library.h"

#include <dlfcn.h>

namespace muster {

Result<SharedLibrary> SharedLibrary::Open(const std::vector<std::string>& names) {
  std::string why = "no name was given";
  for (const std::string& name : names) {
    if (void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      return SharedLibrary(name, handle);
    }
    if (&name == &names.front()) why = ::dlerror();
  }
  return Err(Code::kNotFound, "{}", why);
}

void* SharedLibrary::Find(const std::string& symbol) const {
  return ::dlsym(handle_, symbol.c_str());
}

}  // namespace muster
