// NCCL for machines without a GPU: libnccl as MUSTER_LIBNCCL may name it, on the memory and streams of standin_driver.cc. Ranks may be
// threads or processes: they meet in memory that the process of the unique id hands out over an abstract Unix socket, so that nothing
// is left behind. Like NCCL it tells nobody that a rank has died: a sum that waits for one waits until it is aborted.
#include "tests/cuda/standin_nccl.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "collectives/nccl/library.h"
#include "tests/cuda/named_process.h"
#include "tests/cuda/standin_driver.h"

using muster::IsNamedIn;
using muster::cuda::Stream;
using muster::nccl::Config;
using muster::nccl::EncryptionConfig;
using muster::nccl::UniqueId;

namespace {

constexpr int kSystemError = 2;
constexpr int kInvalidUsage = 5;
constexpr int kMaxRanks = 64;
constexpr size_t kSlotBytes = 64 << 10;

std::atomic<int> slow_ms{0};
std::atomic<bool> never_ready{false};
std::atomic<bool> abort_hangs{false};
std::atomic<bool> encrypted{false};
std::atomic<int> failure{0};
std::atomic<int> communicators{0};

void Pause() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

// What the ranks of a communicator share.
struct Shared {
  std::atomic<uint64_t> entered;  // of all barriers so far
  std::atomic<int> finalized;
  UniqueId child;  // of what a shrink makes
  std::atomic<bool> has_child;
  alignas(64) unsigned char slots[kMaxRanks][kSlotBytes];
};

sockaddr_un AddressOf(const UniqueId& id, socklen_t& length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t name = std::strlen(id.internal);
  std::memcpy(address.sun_path + 1, id.internal, name);
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name);
  return address;
}

// A message with room for one file descriptor.
struct Parcel {
  char byte = 0;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};

  Parcel() {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
};

// Hands out the memory of an id to all who ask, until the process ends.
void Serve(int listener, int memory) {
  while (true) {
    const int connection = ::accept(listener, nullptr, nullptr);
    if (connection < 0) return;
    Parcel parcel;
    cmsghdr* header = CMSG_FIRSTHDR(&parcel.message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &memory, sizeof memory);
    (void)::sendmsg(connection, &parcel.message, MSG_NOSIGNAL);
    ::close(connection);
  }
}

// Null if the process of the id is gone.
Shared* Attach(const UniqueId& id) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t length = 0;
  const sockaddr_un address = AddressOf(id, length);
  Shared* shared = nullptr;
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0) {
    Parcel parcel;
    if (::recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC) == 1 &&
        CMSG_FIRSTHDR(&parcel.message) != nullptr) {
      int memory = -1;
      std::memcpy(&memory, CMSG_DATA(CMSG_FIRSTHDR(&parcel.message)), sizeof memory);
      void* mapped = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
      ::close(memory);
      if (mapped != MAP_FAILED) shared = static_cast<Shared*>(mapped);
    }
  }
  ::close(socket);
  return shared;
}

int (*Queue())(Stream, void (*)(void*), void*) {
  static const auto driver = muster::SharedLibrary::Open({std::getenv("MUSTER_LIBCUDA")});
  static const auto queue =
      reinterpret_cast<decltype(&standin_queue)>(driver ? driver->Find("standin_queue") : nullptr);
  return queue;
}

size_t BytesOf(int type) { return type == muster::nccl::kInt64 ? 8 : 4; }

template <typename Lane>
void AddTo(Lane* sum, const Lane* values, size_t count) {
  for (size_t i = 0; i < count; ++i) sum[i] += values[i];
}

void Add(int type, unsigned char* sum, const unsigned char* values, size_t count) {
  if (type == muster::nccl::kFloat32) {
    AddTo(reinterpret_cast<float*>(sum), reinterpret_cast<const float*>(values), count);
  } else if (type == muster::nccl::kInt64) {
    AddTo(reinterpret_cast<uint64_t*>(sum), reinterpret_cast<const uint64_t*>(values), count);
  } else {
    AddTo(reinterpret_cast<uint32_t*>(sum), reinterpret_cast<const uint32_t*>(values), count);
  }
}

}  // namespace

struct ncclComm {
  int rank = 0;
  int size = 0;
  Shared* shared = nullptr;
  std::atomic<int> state{muster::nccl::kInProgress};
  std::atomic<bool> aborted{false};
  std::atomic<int> queued{0};  // operations that have not ended
  uint64_t barriers = 0;       // of this rank; of the thread of its stream
  bool first = true;
  std::vector<std::thread> helpers;

  bool Barrier() {
    ++barriers;
    shared->entered.fetch_add(1);
    while (shared->entered.load() < barriers * static_cast<uint64_t>(size)) {
      if (aborted) return false;
      Pause();
    }
    return true;
  }

  void Sum(unsigned char* lanes, size_t count, int type) {
    const size_t lane = BytesOf(type);
    for (size_t done = 0; done < count;) {
      const size_t now = std::min(count - done, kSlotBytes / lane);
      unsigned char* part = lanes + done * lane;
      std::memcpy(shared->slots[rank], part, now * lane);
      if (!Barrier()) return;
      std::memcpy(part, shared->slots[0], now * lane);
      for (int other = 1; other < size; ++other) Add(type, part, shared->slots[other], now);
      if (!Barrier()) return;
      done += now;
    }
  }

  // Does `act` after a while, in which this communicator is in progress.
  template <typename Act>
  int Later(Act act) {
    state = muster::nccl::kInProgress;
    helpers.emplace_back([this, act] {
      const auto until =
          std::chrono::steady_clock::now() + std::chrono::milliseconds(slow_ms.load());
      while (!aborted && (never_ready || std::chrono::steady_clock::now() < until)) Pause();
      if (!aborted) state = act();
    });
    return muster::nccl::kInProgress;
  }

  void End() {
    for (std::thread& helper : helpers) helper.join();
    while (queued > 0) Pause();
    if (shared != nullptr) ::munmap(shared, sizeof(Shared));
    --communicators;
    delete this;
  }
};

namespace {

struct Operation {
  ncclComm* comm;
  unsigned char* lanes;
  size_t count;
  int type;
};

void RunOperation(void* of) {
  const std::unique_ptr<Operation> operation(static_cast<Operation*>(of));
  operation->comm->Sum(operation->lanes, operation->count, operation->type);
  --operation->comm->queued;
}

ncclComm* Make(int size, int rank) {
  auto* comm = new ncclComm;
  comm->rank = rank;
  comm->size = size;
  ++communicators;
  return comm;
}

// Returns when all ranks are there.
int Meet(ncclComm* comm, const UniqueId& id) {
  comm->shared = Attach(id);
  if (comm->shared == nullptr) return kSystemError;
  return comm->Barrier() ? 0 : kSystemError;
}

int Init(ncclComm** out, int size, int rank, const UniqueId& id, const Config* config) {
  if (config->blocking != 0 || size > kMaxRanks) return kInvalidUsage;
  ncclComm* comm = Make(size, rank);
  *out = comm;
  return comm->Later([comm, id] { return Meet(comm, id); });
}

}  // namespace

extern "C" {

void standin_nccl_slow(int milliseconds) { slow_ms = milliseconds; }
void standin_nccl_never_ready(int never) { never_ready = never != 0; }
void standin_nccl_fail(int result) { failure = result; }
void standin_nccl_abort_hangs(int hangs) { abort_hangs = hangs != 0; }
int standin_nccl_encrypted() { return encrypted ? 1 : 0; }
int standin_nccl_communicators() { return communicators; }

int ncclGetVersion(int* version) {
  const char* given = std::getenv("MUSTER_STANDIN_NCCL_VERSION");
  *version = given != nullptr ? std::atoi(given) : 23203;
  return 0;
}

const char* ncclGetErrorString(int code) {
  return code == kSystemError ? "unhandled system error" : "an error of the stand-in";
}

const char* ncclGetLastError(ncclComm*) { return "as the stand-in was told"; }

int ncclGetUniqueId(UniqueId* id) {
  static std::atomic<int> number{0};
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "muster-standin-nccl-%d-%d", ::getpid(),
                ++number);
  const int memory = ::memfd_create("standin-nccl", MFD_CLOEXEC);
  if (memory < 0 || ::ftruncate(memory, sizeof(Shared)) != 0) return kSystemError;
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t length = 0;
  const sockaddr_un address = AddressOf(*id, length);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(listener, kMaxRanks) != 0) {
    return kSystemError;
  }
  std::thread([listener, memory] { Serve(listener, memory); }).detach();
  return 0;
}

int ncclSetEncryption(const EncryptionConfig* config) {
  constexpr size_t kLeastKey = 32;
  if (config->size != sizeof *config || std::strlen(config->key) < kLeastKey) return kInvalidUsage;
  encrypted = true;
  return 0;
}

int ncclCommInitRankConfig(ncclComm** comm, int size, UniqueId id, int rank, Config* config) {
  return Init(comm, size, rank, id, config);
}

int ncclCommInitRankScalable(ncclComm** comm, int size, int rank, int count, UniqueId* ids,
                             Config* config) {
  return count < 1 ? kInvalidUsage : Init(comm, size, rank, ids[0], config);
}

// As after a death, and once: what the parent does is ended. Until the new one is there the parent is in progress.
int ncclCommShrink(ncclComm* parent, int* excluded, int count, ncclComm** out, Config* config,
                   int flags) {
  if (flags != muster::nccl::kShrinkAbort || config != nullptr || count < 1) return kInvalidUsage;
  const auto below = std::count_if(excluded, excluded + count,
                                   [parent](int other) { return other < parent->rank; });
  parent->aborted = true;
  while (parent->queued > 0) Pause();
  parent->aborted = false;
  ncclComm* child = Make(parent->size - count, parent->rank - static_cast<int>(below));
  return parent->Later([parent, child, out] {
    Shared& shared = *parent->shared;
    if (child->rank == 0) shared.has_child = ncclGetUniqueId(&shared.child) == 0;
    while (!shared.has_child) Pause();
    child->state = Meet(child, shared.child);
    *out = child;
    return child->state.load();
  });
}

int ncclCommGetAsyncError(ncclComm* comm, int* state) {
  *state = failure != 0 ? failure.load() : comm->state.load();
  return 0;
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int op, ncclComm* comm,
                  Stream stream) {
  if (from != to || op != muster::nccl::kSum || comm->state != 0) return kInvalidUsage;
  const auto queue = [=] {
    ++comm->queued;
    auto* operation = new Operation{comm, static_cast<unsigned char*>(to), count, type};
    return Queue()(stream, RunOperation, operation);
  };
  if (!std::exchange(comm->first, false)) return queue();
  return comm->Later(queue);
}

int ncclCommFinalize(ncclComm* comm) {
  ++comm->shared->finalized;
  return comm->Later([comm] {
    while (!comm->aborted && comm->shared->finalized < comm->size) Pause();
    return 0;
  });
}

int ncclCommDestroy(ncclComm* comm) {
  comm->End();
  return 0;
}

int ncclCommAbort(ncclComm* comm) {
  while (abort_hangs || IsNamedIn("MUSTER_STANDIN_NCCL_HANG_FILE")) Pause();
  comm->aborted = true;
  comm->End();
  return 0;
}

}  // extern "C"
