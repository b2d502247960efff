#include "runtime/cuda/driver.h"

#include <cstdlib>

namespace muster::cuda {

std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Result<const Driver*> Driver::Load() {
  static const Result<Driver> loaded = LoadOnce();
  if (!loaded) return tl::unexpected(loaded.error());
  return &*loaded;
}

Result<Driver> Driver::LoadOnce() {
  const char* given = std::getenv("MUSTER_LIBCUDA");
  const auto library = SharedLibrary::Open({given != nullptr ? given : "libcuda.so.1"});
  if (!library) {
    return WithHint(
        Err(Code::kNotFound, "no NVIDIA driver was found ({})", library.error().message),
        "install the driver of this machine's GPU");
  }
  Driver driver;
  const bool complete = FindFunctions(*library, driver);
  if (driver.driver_get_version.call != nullptr) {
    (void)driver.driver_get_version.call(&driver.version_);
  }
  if (!complete || driver.version_ < kLeastVersion) {
    return WithHint(Err(Code::kFailedPrecondition,
                        "the NVIDIA driver is for CUDA {}, Muster needs one for CUDA {}",
                        VersionText(driver.version_), VersionText(kLeastVersion)),
                    "install a newer driver");
  }
  const int code = driver.init.call(0);
  if (code == kNoDevice) {
    return WithHint(Err(Code::kNotFound, "the NVIDIA driver found no GPU"),
                    "CUDA_VISIBLE_DEVICES may hide those that are there");
  }
  if (code != kSuccess) {
    return WithHint(
        Err(Code::kFailedPrecondition, "the NVIDIA driver does not start: {}", driver.TextOf(code)),
        "see what nvidia-smi says");
  }
  return driver;
}

std::string Driver::TextOf(int code) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (get_error_name.call(code, &name) != kSuccess || name == nullptr) {
    return fmt::format("error {}", code);
  }
  if (get_error_string.call(code, &text) != kSuccess || text == nullptr) return name;
  return fmt::format("{}, {}", name, text);
}

tl::unexpected<Error> Driver::Failed(const char* symbol, int code) const {
  return Err(code == kOutOfMemory ? Code::kResourceExhausted : Code::kInternal, "{}: {}", symbol,
             TextOf(code));
}

}  // namespace muster::cuda
