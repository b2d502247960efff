// What the survivors of a rank that was killed in mid-sum wait for: a ring of NCCL that is made anew, as Muster does (decision 0014), or
// ncclCommShrink of the broken one. Ranks are processes, on one GPU each as far as there are some. A line of JSON for each way: the
// milliseconds of the slowest survivor from the death's being known to the end of the first sum in the new ring.
//
//   make gpu-bench ARGS="--only ring"     or     build/tests/ring_bench [ranks (4) [repeats (10)]]
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "collectives/nccl/library.h"
#include "runtime/base/pause.h"
#include "runtime/cuda/device.h"

namespace muster::nccl {
namespace {

constexpr int kMostRanks = 64;
constexpr int kSharedCtas = 4;  // as nccl.cc has it, for ranks on one GPU
constexpr size_t kLanes = size_t{1} << 20;
constexpr auto kTimeout = std::chrono::seconds(60);  // of every wait
constexpr auto kPause = std::chrono::microseconds(50);
constexpr unsigned kMostSeconds = 120;  // of a process

enum class Way { kAnew, kShrink };

// What the processes of one repeat share.
struct Shared {
  std::atomic<int> trained = 0;       // ranks that have added up in the ring that will break
  std::atomic<bool> is_dead = false;  // the last rank is, and its process gone
  std::atomic<int> ids = 0;           // that are there
  UniqueId id[2];                     // of the first ring and of the new one
  double milliseconds[kMostRanks] = {};
  char error[256] = "";  // of one of those who failed
};

template <typename Done>
Status AwaitUntil(const char* what, const Done& done) {
  const TimePoint deadline = MonotonicNow() + kTimeout;
  while (true) {
    MUSTER_ASSIGN(const bool is_done, done());
    if (is_done) return {};
    if (MonotonicNow() > deadline) {
      return Err(Code::kDeadlineExceeded, "{} took more than {:.0f} s", what, Seconds(kTimeout));
    }
    PauseFor(kPause, {});
  }
}

class Rank {
 public:
  Rank(Shared& shared, int rank, int size) : shared_(shared), rank_(rank), size_(size) {}

  // The last rank does not return from it.
  Status Run(Way way) {
    MUSTER_TRY(Open());
    MUSTER_ASSIGN(const Comm first, MakeRing(0, rank_, size_));
    MUSTER_TRY(Queue(first));
    MUSTER_TRY(AwaitSum());
    ++shared_.trained;
    MUSTER_TRY(
        AwaitUntil("the other ranks", [&]() -> Result<bool> { return shared_.trained == size_; }));
    if (rank_ == size_ - 1) {
      ::kill(::getpid(), SIGKILL);
    }
    MUSTER_TRY(Queue(first));  // which waits for the dead one
    MUSTER_TRY(AwaitUntil("the death", [&]() -> Result<bool> { return shared_.is_dead.load(); }));

    const TimePoint known = MonotonicNow();
    if (way == Way::kAnew) MUSTER_TRY(Call(library_->comm_abort, first));
    if (way == Way::kAnew) MUSTER_TRY(AwaitSum());
    MUSTER_ASSIGN(const Comm next,
                  way == Way::kAnew ? MakeRing(1, rank_, size_ - 1) : Shrunk(first));
    MUSTER_TRY(Queue(next));
    MUSTER_TRY(AwaitSum());
    shared_.milliseconds[rank_] = Milliseconds(MonotonicNow() - known);
    return {};  // the process ends now, with all that it has
  }

 private:
  Status Open() {
    MUSTER_ASSIGN(library_, Library::Load());
    MUSTER_ASSIGN(const std::vector<cuda::DeviceFacts> devices, cuda::ListDevices());
    const int count = static_cast<int>(devices.size());
    is_shared_ = count < size_;
    MUSTER_ASSIGN(device_, cuda::Device::Open(rank_ % count));
    MUSTER_ASSIGN(stream_, device_->MakeStream());
    MUSTER_ASSIGN(done_, device_->MakeEvent());
    MUSTER_ASSIGN(memory_, device_->Allocate(kLanes * sizeof(int32_t)));
    return device_->Zero(memory_, kLanes * sizeof(int32_t), stream_);
  }

  template <typename... P>
  Status Call(const LibraryFunction<P...>& function, std::type_identity_t<P>... arguments) {
    const int code = function.call(arguments...);
    if (code == kSuccess || code == kInProgress) return {};
    return Err(Code::kUnavailable, "{}", library_->TextOf(function.symbol, code, nullptr));
  }

  Status AwaitReady(Comm comm) {
    return AwaitUntil("NCCL", [&]() -> Result<bool> {
      int state = kSuccess;
      MUSTER_TRY(Call(library_->comm_get_async_error, comm, &state));
      if (state == kSuccess || state == kInProgress) return state == kSuccess;
      return Err(Code::kUnavailable, "{}", library_->TextOf("NCCL", state, comm));
    });
  }

  Result<Comm> MakeRing(int number, int rank, int size) {
    if (rank == 0) {
      MUSTER_TRY(Call(library_->get_unique_id, &shared_.id[number]));
      ++shared_.ids;
    }
    MUSTER_TRY(AwaitUntil("the unique id", [&]() -> Result<bool> { return shared_.ids > number; }));
    Config config;
    config.blocking = 0;
    if (is_shared_) config.max_ctas = kSharedCtas;
    Comm comm = nullptr;
    MUSTER_TRY(
        Call(library_->comm_init_rank_config, &comm, size, shared_.id[number], rank, &config));
    MUSTER_TRY(AwaitReady(comm));
    return comm;
  }

  // NCCL ends what the broken one does. It has the new one when it is ready again itself.
  Result<Comm> Shrunk(Comm broken) {
    if (library_->comm_shrink.call == nullptr) {
      return Err(Code::kFailedPrecondition, "NCCL {} has no ncclCommShrink",
                 VersionText(library_->version()));
    }
    int dead = size_ - 1;
    Comm next = nullptr;
    MUSTER_TRY(Call(library_->comm_shrink, broken, &dead, 1, &next, nullptr, kShrinkAbort));
    MUSTER_TRY(AwaitReady(broken));
    MUSTER_TRY(AwaitReady(next));
    return next;
  }

  Status Queue(Comm comm) {
    auto* lanes = cuda::PointerOf<void>(memory_);
    MUSTER_TRY(Call(library_->all_reduce, lanes, lanes, kLanes, kInt32, kSum, comm, stream_));
    return AwaitReady(comm);
  }

  Status AwaitSum() {
    return device_->AwaitAll(stream_, done_, "a sum", MonotonicNow() + kTimeout);
  }

  Shared& shared_;
  const int rank_;
  const int size_;
  const Library* library_ = nullptr;
  std::unique_ptr<cuda::Device> device_;
  bool is_shared_ = false;  // the device is, by ranks
  cuda::Stream stream_ = nullptr;
  cuda::Event done_ = nullptr;
  cuda::DevicePointer memory_ = 0;
};

// Of the slowest survivor. Errors: that of one of them.
Result<double> Repeat(Way way, int size) {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Err(Code::kResourceExhausted, "mmap: {}", std::strerror(errno));
  auto* shared = new (memory) Shared;
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(::fork());
    if (ranks.back() != 0) continue;
    ::alarm(kMostSeconds);  // whatever hangs
    // Never destroyed: that would wait for what a broken ring still does.
    const Status status = (new Rank(*shared, rank, size))->Run(way);
    if (!status) {
      std::strncpy(shared->error, status.error().message.c_str(), sizeof shared->error - 1);
    }
    ::_exit(status ? 0 : 1);
  }
  bool failed = false;
  for (auto rank = ranks.rbegin(); rank != ranks.rend(); ++rank) {
    int status = 0;
    ::waitpid(*rank, &status, 0);
    failed = failed || (rank == ranks.rbegin() ? !WIFSIGNALED(status) : status != 0);
    shared->is_dead = true;
  }
  const double slowest = std::ranges::max(shared->milliseconds);
  const std::string error = shared->error;
  ::munmap(memory, sizeof(Shared));
  if (failed) return Err(Code::kUnavailable, "{}", error.empty() ? "a rank has died" : error);
  return slowest;
}

// One line.
bool Measure(Way way, const char* name, int size, int repeats) {
  std::vector<double> all;
  for (int i = 0; i < repeats; ++i) {
    const Result<double> milliseconds = Repeat(way, size);
    if (!milliseconds) {
      fmt::print("{{\"way\": \"{}\", \"ranks\": {}, \"error\": \"{}\"}}\n", name, size,
                 milliseconds.error().message);
      return false;
    }
    all.push_back(*milliseconds);
  }
  std::ranges::sort(all);
  fmt::print("{{\"way\": \"{}\", \"ranks\": {}, \"median_ms\": {:.1f}, \"all_ms\": [{:.1f}]}}\n",
             name, size, all[all.size() / 2], fmt::join(all, ", "));
  std::fflush(stdout);
  return true;
}

int Main(int count, char** arguments) {
  const int size = count > 1 ? std::atoi(arguments[1]) : 4;
  const int repeats = count > 2 ? std::atoi(arguments[2]) : 10;
  if (size < 3 || size > kMostRanks || repeats < 1) {
    fmt::print(stderr, "ring_bench [ranks, 3 to {}] [repeats]\n", kMostRanks);
    return 2;
  }
  const bool anew = Measure(Way::kAnew, "anew", size, repeats);
  const bool shrunk = Measure(Way::kShrink, "shrink", size, repeats);
  return anew && shrunk ? 0 : 1;
}

}  // namespace
}  // namespace muster::nccl

int main(int count, char** arguments) { return muster::nccl::Main(count, arguments); }
