#include "collectives/nccl/library.h"

#include <cstdlib>
#include <string_view>

namespace muster::nccl {

namespace {

constexpr int kSharingVersion = 23000;

}  // namespace

std::string VersionText(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

Result<const Library*> Library::Load() {
  static const Result<Library> loaded = LoadOnce();
  if (!loaded) return tl::unexpected(loaded.error());
  return &*loaded;
}

Result<Library> Library::LoadOnce() {
  // Multicast in the switches (NVLS) is not known to survive an abort.
  ::setenv("NCCL_NVLS_ENABLE", "0", 0);
  const char* given = std::getenv("MUSTER_LIBNCCL");
  const auto library = SharedLibrary::Open({given != nullptr ? given : "libnccl.so.2"});
  if (!library) {
    return WithHint(Err(Code::kNotFound, "NCCL was not found ({})", library.error().message),
                    "install libnccl2, or name the file in MUSTER_LIBNCCL");
  }
  Library nccl;
  const bool complete = FindFunctions(*library, nccl);
  nccl.comm_init_rank_scalable.FindIn(*library);
  nccl.comm_shrink.FindIn(*library);
  nccl.set_encryption.FindIn(*library);
  nccl.get_error_string_ =
      reinterpret_cast<const char* (*)(int)>(library->Find("ncclGetErrorString"));
  nccl.get_last_error_ = reinterpret_cast<const char* (*)(Comm)>(library->Find("ncclGetLastError"));
  if (nccl.get_version.call != nullptr) (void)nccl.get_version.call(&nccl.version_);
  if (!complete || nccl.version_ < kLeastVersion) {
    return WithHint(Err(Code::kFailedPrecondition, "{} is NCCL {}, Muster needs {}",
                        library->name(), VersionText(nccl.version_), VersionText(kLeastVersion)),
                    "install a newer libnccl2, or name another file in MUSTER_LIBNCCL");
  }
  return nccl;
}

bool Library::SharesGpus() const {
  const char* enabled = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return version_ >= kSharingVersion && enabled != nullptr && std::string_view(enabled) == "1";
}

std::string Library::TextOf(const char* symbol, int code, Comm comm) const {
  const char* text = get_error_string_ != nullptr ? get_error_string_(code) : nullptr;
  std::string sentence =
      text != nullptr ? fmt::format("{}: {}", symbol, text) : fmt::format("{}: {}", symbol, code);
  const char* last = get_last_error_ != nullptr ? get_last_error_(comm) : nullptr;
  if (last != nullptr && *last != '\0') sentence += fmt::format(", {}", last);
  return sentence;
}

}  // namespace muster::nccl
