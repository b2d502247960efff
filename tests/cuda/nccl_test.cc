// The nccl backend: ranks are threads, each with a device of its own. On a machine with a GPU they share it, and NCCL is NVIDIA's; the
// faults of NcclOfOurs need the stand-ins for driver and NCCL, which run it everywhere else.
#include "collectives/nccl/nccl.h"

#include <gmock/gmock.h>

#include <atomic>
#include <latch>
#include <numeric>
#include <thread>

#include "collectives/host/host.h"
#include "collectives/inproc/inproc.h"
#include "collectives/nccl/library.h"
#include "collectives/nccl/ring.h"
#include "runtime/base/log.h"
#include "tests/cuda/standins.h"

namespace muster {
namespace {

using testing::HasSubstr;
using Lane = DeviceCollectives::Lane;

constexpr int kRemoteError = 6;
const bool kOfOurs = std::getenv("MUSTER_LIBNCCL") != nullptr;

#define STANDIN_NCCL(name) ToNccl<decltype(name)>(#name)

class World {
 public:
  explicit World(int size, const NcclOptions& options = {}) {
    for (int rank = 0; rank < size; ++rank) {
      HostOptions host;
      host.job = "job-under-test";
      host.secret = "0123456789abcdef-not-a-secret";
      auto device = cuda::Device::Open(0);
      EXPECT_TRUE(device) << device.error().ToString();
      devices_.push_back(std::move(*device));
      auto backend =
          CreateNcclBackend(std::move(*CreateHostBackend(host)), *devices_.back(), options);
      EXPECT_TRUE(backend) << backend.error().ToString();
      backends_.push_back(std::move(*backend));
      peers_.push_back({"w-" + std::to_string(rank), backends_.back()->address()});
    }
  }

  cuda::Device& device(int rank) { return *devices_[static_cast<size_t>(rank)]; }

  Result<std::unique_ptr<Communicator>> Connect(int rank, uint64_t generation = 1,
                                                std::stop_token stop = {}) {
    ConnectRequest request;
    request.generation = generation;
    request.rank = rank;
    request.peers = peers_;
    request.connect_timeout = std::chrono::seconds(60);
    request.heartbeat_timeout = std::chrono::seconds(30);
    return backends_[static_cast<size_t>(rank)]->Connect(request, std::move(stop));
  }

  // Runs `body` once per rank, in threads, when all are connected.
  void Run(const std::function<void(int rank, std::unique_ptr<Communicator>)>& body) {
    std::latch connected(static_cast<ptrdiff_t>(backends_.size()));
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < static_cast<int>(backends_.size()); ++rank) {
      threads.emplace_back([&, rank] {
        auto communicator = Connect(rank);
        connected.arrive_and_wait();
        ASSERT_TRUE(communicator) << communicator.error().message;
        body(rank, std::move(*communicator));
      });
    }
  }

 private:
  std::vector<std::unique_ptr<cuda::Device>> devices_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<Peer> peers_;
};

// Lanes in the memory of a device.
template <typename T>
class Lanes {
 public:
  Lanes(cuda::Device& device, std::vector<T> values)
      : device_(device),
        values_(std::move(values)),
        stream_(*device.MakeStream()),
        event_(*device.MakeEvent()),
        memory_(*device.Allocate(values_.size() * sizeof(T))) {
    EXPECT_TRUE(device_.CopyIn(memory_, std::as_bytes(std::span(values_)), stream_));
    AwaitCopy();
  }

  Status Sum(Communicator& communicator) {
    constexpr Lane kLane = std::is_same_v<T, float> ? Lane::kFloat32
                           : sizeof(T) == 4         ? Lane::kInt32
                                                    : Lane::kInt64;
    MUSTER_TRY(communicator.device()->Sum(memory_, values_.size(), kLane, stream_));
    MUSTER_TRY(device_.Record(event_, stream_));
    return communicator.device()->Await(event_);
  }

  const std::vector<T>& values() {
    EXPECT_TRUE(device_.CopyOut(std::as_writable_bytes(std::span(values_)), memory_, stream_));
    AwaitCopy();
    return values_;
  }

 private:
  void AwaitCopy() {
    EXPECT_TRUE(
        device_.AwaitAll(stream_, event_, "a copy", MonotonicNow() + std::chrono::seconds(30)));
  }

  cuda::Device& device_;
  std::vector<T> values_;
  cuda::Stream stream_;
  cuda::Event event_;
  cuda::DevicePointer memory_;
};

template <typename T>
std::vector<T> ValuesOf(int rank, size_t count) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(static_cast<int64_t>(i) * 7 - 1000 * rank);
  }
  return values;
}

template <typename T>
void ExpectSums(size_t count) {
  constexpr int kSize = 3;
  World world(kSize);
  std::vector<T> expected(count);
  for (int rank = 0; rank < kSize; ++rank) {
    const auto values = ValuesOf<T>(rank, count);
    for (size_t i = 0; i < count; ++i) expected[i] += values[i];
  }
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    Lanes<T> lanes(world.device(rank), ValuesOf<T>(rank, count));
    ASSERT_TRUE(lanes.Sum(*communicator));
    EXPECT_EQ(lanes.values(), expected);
  });
}

class Nccl : public testing::Test {
 protected:
  // Before there are threads: ThreadSanitizer does not see into the library of the log.
  static void SetUpTestSuite() { InitLog("nccl_test", "warn"); }
  void SetUp() override {
    const auto library = nccl::Library::Load();
    ASSERT_TRUE(library) << library.error().ToString();
    ASSERT_TRUE((*library)->SharesGpus())
        << "ranks share a GPU here, which takes NCCL 2.30 and NCCL_MULTI_RANK_GPU_ENABLE=1";
  }
  void TearDown() override {
    EXPECT_EQ(kOfOurs ? STANDIN_NCCL(standin_nccl_communicators)() : 0, 0);
  }
};

class NcclOfOurs : public Nccl {
 protected:
  void SetUp() override {
    if (!kOfOurs) GTEST_SKIP() << "no stand-in for NCCL";
    Nccl::SetUp();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    STANDIN_NCCL(standin_nccl_slow)(0);
    STANDIN_NCCL(standin_nccl_never_ready)(0);
    STANDIN_NCCL(standin_nccl_fail)(0);
    STANDIN_NCCL(standin_nccl_abort_hangs)(0);
    Nccl::TearDown();
  }
};

TEST_F(Nccl, SumsMemoryOfDevices) {
  for (const size_t count : {1, 1000, 100'000}) {
    ExpectSums<int32_t>(count);
    ExpectSums<int64_t>(count);
    ExpectSums<float>(count);
  }
}

TEST_F(NcclOfOurs, MayTakeItsTime) {
  STANDIN_NCCL(standin_nccl_slow)(50);
  ExpectSums<int32_t>(10);
}

TEST_F(NcclOfOurs, EncryptsWhenItIsGivenAKey) {
  const auto device = std::move(*cuda::Device::Open(0));
  const auto create = [&](const std::string& key) {
    NcclOptions options;
    options.pre_shared_key = key;
    return CreateNcclBackend(CreateInprocBackend(CreateInprocFabric(), "alone"), *device, options);
  };
  ASSERT_TRUE(create(""));
  EXPECT_FALSE(STANDIN_NCCL(standin_nccl_encrypted)());
  const auto refused = create("too short");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_THAT(refused.error().message, HasSubstr("NCCL 2.32.3 does not encrypt its connections"));
  ASSERT_TRUE(create(std::string(32, 'k')));
  EXPECT_TRUE(STANDIN_NCCL(standin_nccl_encrypted)());
}

TEST_F(Nccl, HasNothingToAddUpAlone) {
  World world(1);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    Lanes<int32_t> lanes(world.device(rank), {1, 2, 3});
    ASSERT_TRUE(lanes.Sum(*communicator));
    EXPECT_EQ(lanes.values(), (std::vector<int32_t>{1, 2, 3}));
  });
}

TEST_F(Nccl, LeavesTheRestToTheHost) {
  World world(2);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    std::vector<int32_t> votes = {rank, 5};
    ASSERT_TRUE(communicator->AllReduce(votes, ReduceOp::kMax));
    EXPECT_EQ(votes, (std::vector<int32_t>{1, 5}));
    ASSERT_TRUE(communicator->Barrier());
  });
}

TEST_F(Nccl, LeavesSumsToTheHostWhereRanksShareAGpuThatItDoesNotShare) {
  const std::string enabled = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  ::setenv("NCCL_MULTI_RANK_GPU_ENABLE", "0", 1);
  World world(3);
  world.Run([](int rank, std::unique_ptr<Communicator> communicator) {
    EXPECT_EQ(communicator->device(), nullptr);
    std::vector<int32_t> values = {rank, 1};
    ASSERT_TRUE(communicator->AllReduce(std::span(values), ReduceOp::kSum));
    EXPECT_THAT(values, testing::ElementsAre(3, 3));
  });
  ::setenv("NCCL_MULTI_RANK_GPU_ENABLE", enabled.c_str(), 1);
}

// The next generation is connected while this one adds up.
TEST_F(Nccl, ConnectsBesideWhatIsGoingOn) {
  World world(2);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    std::atomic<bool> connected{false};
    std::unique_ptr<Communicator> next;
    std::jthread builder([&] {
      auto built = world.Connect(rank, 2);
      ASSERT_TRUE(built) << built.error().message;
      next = std::move(*built);
      connected = true;
    });
    Lanes<int64_t> lanes(world.device(rank), {rank});
    std::vector<int32_t> ready = {0};
    while (ready[0] == 0) {
      ASSERT_TRUE(lanes.Sum(*communicator));
      ready[0] = connected ? 1 : 0;
      ASSERT_TRUE(communicator->AllReduce(ready, ReduceOp::kMin));
    }
    builder.join();
    communicator.reset();
    ASSERT_TRUE(lanes.Sum(*next));
  });
}

TEST_F(NcclOfOurs, TellsAllRanksWhyItIsNotInitialised) {
  STANDIN_NCCL(standin_nccl_never_ready)(1);
  NcclOptions options;
  options.init_timeout = std::chrono::milliseconds(500);
  World world(2, options);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto communicator = world.Connect(rank);
      ASSERT_FALSE(communicator);
      EXPECT_THAT(communicator.error().message, HasSubstr("NCCL was not initialised within 0.5 s"));
    });
  }
}

// The ranks watch each other meanwhile: what ends it for one ends it for all.
TEST_F(NcclOfOurs, StopsInitialisingWhenARankPreparesAnotherGeneration) {
  STANDIN_NCCL(standin_nccl_never_ready)(1);
  World world(3);
  std::stop_source stop;
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      const auto communicator =
          world.Connect(rank, 1, rank == 1 ? stop.get_token() : std::stop_token());
      ASSERT_FALSE(communicator);
      EXPECT_THAT(communicator.error().message, HasSubstr("another generation is being prepared"));
    });
  }
  while (STANDIN_NCCL(standin_nccl_communicators)() < 3) std::this_thread::yield();
  stop.request_stop();
}

// NCCL would wait for a rank that has gone; the survivors leave, and nothing writes into their memory any more.
TEST_F(Nccl, ALostRankEndsTheSumOfAll) {
  NcclOptions options;
  options.abort_timeout = std::chrono::seconds(4);
  World world(3, options);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    if (rank == 2) return;
    Lanes<int32_t> lanes(world.device(rank), std::vector<int32_t>(1000, rank));
    const Status status = lanes.Sum(*communicator);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kAborted);
    EXPECT_THAT(status.error().message, HasSubstr("(w-2) closed the connection"));
    EXPECT_EQ(communicator->lost_peer(), 2);
    EXPECT_EQ(lanes.Sum(*communicator).error().code, Code::kAborted);
  });
}

// What the backend does not do yet (decision 0014).
TEST_F(Nccl, ARingGoesOnWithoutARankThatIsLost) {
  constexpr int kSize = 3;
  const nccl::Library& library = **nccl::Library::Load();
  nccl::UniqueId id;
  ASSERT_EQ(library.get_unique_id.call(&id), nccl::kSuccess);
  const nccl::GoOn go_on = [deadline = MonotonicNow() + std::chrono::seconds(60)]() -> Status {
    if (MonotonicNow() < deadline) return {};
    return Err(Code::kDeadlineExceeded, "a minute is over");
  };
  std::vector<std::jthread> ranks;
  for (int rank = 0; rank < kSize; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto device = std::move(*cuda::Device::Open(0));
      const cuda::Stream stream = *device->MakeStream();
      const cuda::DevicePointer lane = *device->Allocate(sizeof(int32_t));
      auto ring = std::move(*nccl::Ring::Begin(library, {&id, 1}, rank, kSize, 0));
      EXPECT_TRUE(ring->AwaitReady(go_on));
      if (rank == kSize - 1) return ring->Abort();
      EXPECT_TRUE(ring->Sum(lane, 1, Lane::kInt32, stream));  // which has no end
      EXPECT_TRUE(ring->AwaitReady(go_on));
      auto left = ring->Shrink({kSize - 1}, go_on);
      ring->Abort();
      ASSERT_TRUE(left) << left.error().message;
      const int32_t mine = 10 + rank;
      int32_t sum = 0;
      EXPECT_TRUE(device->CopyIn(lane, std::as_bytes(std::span(&mine, 1)), stream));
      EXPECT_TRUE((*left)->Sum(lane, 1, Lane::kInt32, stream));
      EXPECT_TRUE((*left)->AwaitReady(go_on));
      EXPECT_TRUE(device->CopyOut(std::as_writable_bytes(std::span(&sum, 1)), lane, stream));
      EXPECT_TRUE(device->AwaitAll(stream, *device->MakeEvent(), "the sum",
                                   MonotonicNow() + std::chrono::seconds(60)));
      EXPECT_EQ(sum, 10 + 11);
      (*left)->Finish(go_on);
    });
  }
}

TEST_F(Nccl, ARevocationEndsTheSumOfAll) {
  World world(3);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    if (rank == 2) return communicator->Revoke("the operator wants it");
    Lanes<int32_t> lanes(world.device(rank), std::vector<int32_t>(1000, rank));
    const Status status = lanes.Sum(*communicator);
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message, HasSubstr("the operator wants it"));
  });
}

TEST_F(NcclOfOurs, AnErrorOfItsOwnEndsTheGenerationWithItsText) {
  World world(2);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    Lanes<int32_t> lanes(world.device(rank), std::vector<int32_t>(1000, rank));
    if (rank == 1) STANDIN_NCCL(standin_nccl_fail)(kRemoteError);
    const Status status = rank == 1 ? communicator->Barrier() : lanes.Sum(*communicator);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kAborted);
    EXPECT_THAT(status.error().message, HasSubstr("as the stand-in was told"));
  });
}

// As when a GPU hangs in a kernel: the process must end.
TEST_F(NcclOfOurs, SaysSoWhenItDoesNotLetGo) {
  std::atomic<bool> stuck{false};
  NcclOptions options;
  options.abort_timeout = std::chrono::milliseconds(100);
  options.stuck = [&](const std::string& why) {
    EXPECT_THAT(why, HasSubstr("does not come back"));
    stuck = true;
    STANDIN_NCCL(standin_nccl_abort_hangs)(0);
  };
  World world(2, options);
  world.Run([&](int rank, std::unique_ptr<Communicator> communicator) {
    if (rank == 1) return communicator->Revoke("the end");
    STANDIN_NCCL(standin_nccl_abort_hangs)(1);
    Lanes<int32_t> lanes(world.device(rank), std::vector<int32_t>(1000, rank));
    EXPECT_FALSE(lanes.Sum(*communicator));
  });
  EXPECT_TRUE(stuck);
  while (STANDIN_NCCL(standin_nccl_communicators)() > 0) std::this_thread::yield();
}

}  // namespace
}  // namespace muster
