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
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "collectives/nccl/ring.h"
#include "runtime/base/pause.h"
#include "runtime/cuda/device.h"

namespace muster::nccl {
namespace {

constexpr int kMostRanks = 64;
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

GoOn Within(const std::string& what) {
  return [what, deadline = MonotonicNow() + kTimeout]() -> Status {
    if (MonotonicNow() < deadline) return {};
    return Err(Code::kDeadlineExceeded, "{} took more than {:.0f} s", what, Seconds(kTimeout));
  };
}

template <typename Done>
Status AwaitUntil(const std::string& what, const Done& done) {
  const GoOn go_on = Within(what);
  while (!done()) {
    MUSTER_TRY(go_on());
    PauseFor(kPause, {});
  }
  return {};
}

class Rank {
 public:
  Rank(Shared& shared, int rank, int size) : shared_(shared), rank_(rank), size_(size) {}

  // The last rank does not return from it.
  Status Run(Way way) {
    MUSTER_TRY(Open());
    MUSTER_ASSIGN(first_, MakeRing(0, size_));
    MUSTER_TRY(Queue(*first_));
    MUSTER_TRY(AwaitSum());
    ++shared_.trained;
    MUSTER_TRY(AwaitUntil("the other ranks", [&] { return shared_.trained == size_; }));
    if (rank_ == size_ - 1) ::kill(::getpid(), SIGKILL);
    MUSTER_TRY(Queue(*first_));  // which waits for the dead one
    MUSTER_TRY(AwaitUntil("the death", [&] { return shared_.is_dead.load(); }));

    const TimePoint known = MonotonicNow();
    if (way == Way::kAnew) {
      first_->Abort();
      MUSTER_TRY(AwaitSum());
      MUSTER_ASSIGN(next_, MakeRing(1, size_ - 1));
    } else {
      MUSTER_ASSIGN(next_, first_->Shrink({size_ - 1}, Within("a smaller ring")));
    }
    MUSTER_TRY(Queue(*next_));
    MUSTER_TRY(AwaitSum());
    shared_.milliseconds[rank_] = Milliseconds(MonotonicNow() - known);
    return {};  // the process ends now, with all that it has
  }

 private:
  Status Open() {
    MUSTER_ASSIGN(library_, Library::Load());
    MUSTER_ASSIGN(const std::vector<cuda::DeviceFacts> devices, cuda::ListDevices());
    const int count = static_cast<int>(devices.size());
    max_ctas_ = count < size_ ? kSharedCtas : 0;
    MUSTER_ASSIGN(device_, cuda::Device::Open(rank_ % count));
    MUSTER_ASSIGN(stream_, device_->MakeStream());
    MUSTER_ASSIGN(done_, device_->MakeEvent());
    MUSTER_ASSIGN(memory_, device_->Allocate(kLanes * sizeof(int32_t)));
    return device_->Zero(memory_, kLanes * sizeof(int32_t), stream_);
  }

  Result<std::unique_ptr<Ring>> MakeRing(int number, int size) {
    if (rank_ == 0) {
      const auto& get_id = library_->get_unique_id;
      if (const int code = get_id.call(&shared_.id[number]); code != kSuccess) {
        return Err(Code::kUnavailable, "{}", library_->TextOf(get_id.symbol, code, nullptr));
      }
      ++shared_.ids;
    }
    MUSTER_TRY(AwaitUntil("the unique id", [&] { return shared_.ids > number; }));
    MUSTER_ASSIGN(auto ring,
                  Ring::Begin(*library_, {&shared_.id[number], 1}, rank_, size, max_ctas_));
    if (Status ready = ring->AwaitReady(Within("a new ring")); !ready) {
      ring->Abort();
      return tl::unexpected(ready.error());
    }
    return ring;
  }

  Status Queue(Ring& ring) {
    MUSTER_TRY(ring.Sum(memory_, kLanes, DeviceCollectives::Lane::kInt32, stream_));
    return ring.AwaitReady(Within("to queue a sum"));
  }

  Status AwaitSum() {
    return device_->AwaitAll(stream_, done_, "a sum", MonotonicNow() + kTimeout);
  }

  Shared& shared_;
  const int rank_;
  const int size_;
  const Library* library_ = nullptr;
  std::unique_ptr<cuda::Device> device_;
  int max_ctas_ = 0;
  cuda::Stream stream_ = nullptr;
  cuda::Event done_ = nullptr;
  cuda::DevicePointer memory_ = 0;
  std::unique_ptr<Ring> first_;
  std::unique_ptr<Ring> next_;
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
  nlohmann::ordered_json line{{"way", name}, {"ranks", size}};
  std::vector<double> all;
  for (int i = 0; i < repeats && !line.contains("error"); ++i) {
    if (const Result<double> milliseconds = Repeat(way, size)) {
      all.push_back(std::round(*milliseconds * 10) / 10);
    } else {
      line["error"] = milliseconds.error().message;
    }
  }
  if (!line.contains("error")) {
    std::ranges::sort(all);
    line["median_ms"] = all[all.size() / 2];
    line["all_ms"] = all;
  }
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
  return !line.contains("error");
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
