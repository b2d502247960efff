// Library: NVIDIA's NCCL, if it is installed. The part of its interface that Muster uses is declared here, so that everything builds
// without it.
// Source: NCCL 2.32 nccl.h, https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html.
//
// Threading: safe from any thread; NCCL itself allows one call at a time on a communicator.
#pragma once

#include <climits>
#include <cstddef>
#include <string>

#include "runtime/base/shared_library.h"
#include "runtime/base/status.h"
#include "runtime/cuda/driver_api.h"

struct ncclComm;

namespace muster::nccl {

using Comm = ncclComm*;

// ncclResult_t
inline constexpr int kSuccess = 0;
inline constexpr int kInProgress = 7;  // a call on a communicator that does not block has not ended
// ncclDataType_t, ncclRedOp_t
inline constexpr int kInt32 = 2;
inline constexpr int kInt64 = 4;
inline constexpr int kFloat32 = 7;
inline constexpr int kSum = 0;
// Of ncclCommShrink
inline constexpr int kShrinkAbort = 1;

struct UniqueId {
  char internal[128] = {};
};

// ncclConfig_t as version 2.18 had it: later versions take it, and set what it lacks to their defaults.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21800;
  int blocking = INT_MIN;  // "undefined"
  int cga_cluster_size = INT_MIN;
  int min_ctas = INT_MIN;
  int max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
};

// ncclEncryptionConfig_t as version 2.32 has it.
struct EncryptionConfig {
  size_t size = sizeof(EncryptionConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 23203;
  int mode = 1;  // by pre-shared key
  const char* key = nullptr;
};

// 2.22: communicators can be aborted in a group, without which an abort may wait for another one for ever.
inline constexpr int kLeastVersion = 22200;

struct Api {
  template <typename... P>
  using F = LibraryFunction<P...>;

  F<int*> get_version{"ncclGetVersion"};
  F<UniqueId*> get_unique_id{"ncclGetUniqueId"};
  F<Comm*, int, UniqueId, int, Config*> comm_init_rank_config{"ncclCommInitRankConfig"};
  F<Comm, int*> comm_get_async_error{"ncclCommGetAsyncError"};
  F<Comm> comm_finalize{"ncclCommFinalize"};
  F<Comm> comm_destroy{"ncclCommDestroy"};
  F<Comm> comm_abort{"ncclCommAbort"};
  F<const void*, void*, size_t, int, int, Comm, cuda::Stream> all_reduce{"ncclAllReduce"};
  // Null before 2.23, 2.27 and 2.32.
  F<Comm*, int, int, int, UniqueId*, Config*> comm_init_rank_scalable{"ncclCommInitRankScalable"};
  F<Comm, int*, int, Comm*, Config*, int> comm_shrink{"ncclCommShrink"};
  F<const EncryptionConfig*> set_encryption{"ncclSetEncryption"};

  // Calls `act` with every function that every version has.
  template <typename Act>
  void ForEach(Act act) {
    const auto all = [&](auto&... each) { (act(each), ...); };
    all(get_version, get_unique_id, comm_init_rank_config, comm_get_async_error, comm_finalize,
        comm_destroy, comm_abort, all_reduce);
  }
};

// "2.32.3" of 23203. Versions before 2.9 were counted differently, but are too old anyway.
std::string VersionText(int version);

class Library : public Api {
 public:
  // Loads libnccl.so.2, or the library that the environment variable MUSTER_LIBNCCL names: once in a process, with one answer for all.
  // Errors: kNotFound, kFailedPrecondition (too old).
  static Result<const Library*> Load();

  int version() const { return version_; }
  // Whether several ranks may be on one GPU: since 2.30, where the environment variable NCCL_MULTI_RANK_GPU_ENABLE is 1. NVIDIA calls it
  // experimental.
  bool SharesGpus() const;
  // "ncclAllReduce: unhandled system error, socket poll failed": what NCCL says of `code`, and its last message about `comm`.
  std::string TextOf(const char* symbol, int code, Comm comm) const;

 private:
  static Result<Library> LoadOnce();

  int version_ = 0;
  const char* (*get_error_string_)(int) = nullptr;
  const char* (*get_last_error_)(Comm) = nullptr;
};

}  // namespace muster::nccl
