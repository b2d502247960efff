// What every backend must do when nothing goes wrong: the results of all operations against a naive reference.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "collectives/conformance_fixture.h"

namespace muster {
namespace {

constexpr size_t kSizes[] = {0, 1, 2, 3, 17, 1023, 1024, 1025, 65537};

// Element i of rank r: of very different magnitudes, so that a float sum shows its order.
template <typename T>
T Input(int rank, size_t i) {
  const uint64_t hash = (i * 2654435761u + static_cast<uint64_t>(rank) * 40503u + 7) * 2246822519u;
  const auto value = static_cast<int64_t>(hash >> 20 & 0xffffff) - 0x800000;
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(value) * (hash & 1 ? 1.0f : 1e-5f);
  } else {
    return static_cast<T>(static_cast<uint64_t>(value) * 0x1'0000'0001u);
  }
}

template <typename T>
T Apply(ReduceOp op, T a, T b) {
  if (op == ReduceOp::kMax) return std::max(a, b);
  if (op == ReduceOp::kMin) return std::min(a, b);
  if constexpr (std::is_same_v<T, float>) {
    return a + b;
  } else {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
}

template <typename T>
std::vector<T> Expected(ReduceOp op, int size, size_t count) {
  std::vector<T> result(count);
  for (size_t i = 0; i < count; ++i) {
    result[i] = Input<T>(0, i);
    for (int rank = 1; rank < size; ++rank) result[i] = Apply(op, result[i], Input<T>(rank, i));
  }
  return result;
}

// `count` elements of memory: the backend's, or ordinary (kept alive by `ordinary`).
template <typename T>
std::span<T> Memory(Backend& backend, bool registered, size_t count, std::vector<T>& ordinary) {
  if (!registered) {
    ordinary.resize(count);
    return ordinary;
  }
  auto memory = backend.Allocate(count * sizeof(T));
  EXPECT_TRUE(memory);
  return {reinterpret_cast<T*>(memory->data()), count};
}

template <typename T>
void Fill(int rank, std::span<T> values) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = Input<T>(rank, i);
}

template <typename T>
bool SameBits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

template <typename T>
void CheckReductions(World& world, Communicator& communicator, bool registered, size_t count) {
  std::vector<T> ordinary;
  const int size = communicator.size();
  const int rank = communicator.rank();
  const std::span<T> values = Memory(world.backend(rank), registered, count, ordinary);
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    const std::vector<T> expected = Expected<T>(op, size, count);
    Fill(rank, values);
    const Status reduced = communicator.AllReduce(values, op);
    ASSERT_TRUE(reduced) << reduced.error().message;
    ASSERT_TRUE(SameBits<T>(values, expected)) << "all-reduce of " << count << " by " << size;

    Fill(rank, values);
    const Status scattered = communicator.ReduceScatter(values, op);
    ASSERT_TRUE(scattered) << scattered.error().message;
    const size_t begin = SliceBegin(count, size, rank);
    const size_t length = SliceBegin(count, size, rank + 1) - begin;
    ASSERT_TRUE(
        SameBits<T>(values.subspan(begin, length), std::span(expected).subspan(begin, length)))
        << "reduce-scatter of " << count << " by " << size;
  }
}

class Conformance : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Backends, Conformance,
                         testing::Values(Kind::kInproc, Kind::kHostShared, Kind::kHostTcp),
                         KindName);

TEST_P(Conformance, ReducesLikeTheNaiveReferenceForAllTypesSizesAndWorlds) {
  for (int size = 1; size <= 9; ++size) {
    World world(GetParam(), size);
    world.Run([&world](std::unique_ptr<Communicator> communicator) {
      for (const bool registered : {true, false}) {
        for (const size_t count : kSizes) {
          CheckReductions<float>(world, *communicator, registered, count);
          CheckReductions<int32_t>(world, *communicator, registered, count);
          CheckReductions<int64_t>(world, *communicator, registered, count);
        }
      }
    });
    if (HasFailure()) return;
  }
}

TEST_P(Conformance, ReducesMegabytesInManyChunks) {
  for (const int size : {2, 3, 5}) {
    // Small chunks make many of them, so that the window of views is used up and goes round.
    World world(GetParam(), size, [](HostOptions& options, int) { options.chunk_bytes = 65536; });
    world.Run([&world](std::unique_ptr<Communicator> communicator) {
      const size_t count = (size_t{3} << 20) / sizeof(float) + 5;
      CheckReductions<float>(world, *communicator, true, count);
      CheckReductions<int32_t>(world, *communicator, false, count);
    });
  }
}

TEST_P(Conformance, ReducesWhereOnlySomeRanksUseRegisteredMemory) {
  World world(GetParam(), 3);
  world.Run([&world](std::unique_ptr<Communicator> communicator) {
    CheckReductions<float>(world, *communicator, communicator->rank() == 1, 1'000'003);
  });
}

TEST_P(Conformance, AllGathersInRankOrder) {
  for (int size = 1; size <= 9; ++size) {
    World world(GetParam(), size);
    world.Run([&world, size](std::unique_ptr<Communicator> communicator) {
      const int rank = communicator->rank();
      for (const bool in_place : {true, false}) {
        for (const size_t bytes : {0, 1, 17, 1025, 65537, 1 << 20}) {
          auto all = world.backend(rank).Allocate(bytes * static_cast<size_t>(size));
          ASSERT_TRUE(all);
          std::vector<std::byte> apart(bytes, static_cast<std::byte>(rank + 1));
          std::span<std::byte> mine = apart;
          if (in_place) mine = all->subspan(bytes * static_cast<size_t>(rank), bytes);
          std::ranges::fill(mine, static_cast<std::byte>(rank + 1));
          const Status gathered = communicator->AllGather(mine, *all);
          ASSERT_TRUE(gathered) << gathered.error().message;
          for (int peer = 0; peer < size; ++peer) {
            const auto part = all->subspan(bytes * static_cast<size_t>(peer), bytes);
            ASSERT_TRUE(std::ranges::all_of(
                part, [peer](std::byte b) { return b == static_cast<std::byte>(peer + 1); }));
          }
        }
      }
    });
  }
}

TEST_P(Conformance, BroadcastsFromEveryRoot) {
  for (const int size : {1, 2, 5}) {
    World world(GetParam(), size);
    world.Run([&world, size](std::unique_ptr<Communicator> communicator) {
      const int rank = communicator->rank();
      auto memory = world.backend(rank).Allocate(3 << 20);
      ASSERT_TRUE(memory);
      for (int root = 0; root < size; ++root) {
        for (const size_t bytes : {0, 1, 65537, 3 << 20}) {
          const auto data = memory->first(bytes);
          std::ranges::fill(data, static_cast<std::byte>(rank == root ? 100 + root : 0));
          const Status sent = communicator->Broadcast(data, root);
          ASSERT_TRUE(sent) << sent.error().message;
          ASSERT_TRUE(std::ranges::all_of(
              data, [root](std::byte b) { return b == static_cast<std::byte>(100 + root); }));
        }
      }
    });
  }
}

TEST_P(Conformance, BarrierHoldsEveryRankUntilTheLastHasEntered) {
  World world(GetParam(), 4);
  std::atomic<int> entered = 0;
  world.Run([&entered](std::unique_ptr<Communicator> communicator) {
    for (int round = 1; round <= 50; ++round) {
      ++entered;
      ASSERT_TRUE(communicator->Barrier());
      ASSERT_GE(entered, 4 * round);
      ASSERT_TRUE(communicator->Barrier());
    }
  });
}

TEST_P(Conformance, BarrierIsEnteredWhenARankSaysSo) {
  for (const int size : {1, 3}) {
    World world(GetParam(), size);
    std::atomic<int> entered = 0;
    world.Run([&](std::unique_ptr<Communicator> communicator) {
      int asked = 0;
      ASSERT_TRUE(communicator->Barrier([&]() -> Result<bool> {
        if (++asked < 100 * (communicator->rank() + 1)) return false;
        ++entered;
        return true;
      }));
      EXPECT_EQ(entered, size);
      EXPECT_EQ(asked, 100 * (communicator->rank() + 1)) << "it is not asked again";
    });
  }
}

TEST_P(Conformance, ExchangesLargeMessagesBothWaysWithAllPeersWithoutDeadlock) {
  const int size = 4;
  World world(GetParam(), size);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    const int rank = communicator->rank();
    const size_t bytes = 3'000'001;
    std::vector<std::vector<std::byte>> out, in;
    std::vector<SendTo> sends;
    std::vector<ReceiveFrom> receives;
    for (int peer = 0; peer < communicator->size(); ++peer) {
      // Also with itself; to each peer a message of another content and length.
      out.emplace_back(bytes + static_cast<size_t>(10 * rank + peer),
                       static_cast<std::byte>(10 * rank + peer));
      in.emplace_back(bytes + static_cast<size_t>(10 * peer + rank));
      sends.push_back({peer, out.back()});
      receives.push_back({peer, in.back()});
    }
    const Status done = communicator->Exchange(sends, receives);
    ASSERT_TRUE(done) << done.error().message;
    for (int peer = 0; peer < communicator->size(); ++peer) {
      const auto expected = static_cast<std::byte>(10 * peer + rank);
      ASSERT_TRUE(std::ranges::all_of(in[static_cast<size_t>(peer)],
                                      [expected](std::byte b) { return b == expected; }));
    }
  });
}

TEST_P(Conformance, ExchangeKeepsTheListOrderBetweenAPair) {
  World world(GetParam(), 2);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    std::array<std::byte, 3> out{std::byte{1}, std::byte{2}, std::byte{3}}, in{};
    std::vector<SendTo> sends;
    std::vector<ReceiveFrom> receives;
    const int peer = 1 - communicator->rank();
    for (size_t i = 0; i < out.size(); ++i) {
      sends.push_back({peer, {&out[i], 1}});
      receives.push_back({peer, {&in[i], 1}});
    }
    ASSERT_TRUE(communicator->Exchange(sends, receives));
    EXPECT_EQ(in, out);
  });
}

TEST_P(Conformance, ExchangeNeedsOnlyTheRanksNamed) {
  World world(GetParam(), 3);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    // Rank 2 goes ahead to the barrier while 0 and 1 still exchange.
    for (int round = 0; round < 20; ++round) {
      std::vector<std::byte> data(100'000, std::byte{7});
      if (communicator->rank() == 0) {
        ASSERT_TRUE(communicator->Exchange(std::array{SendTo{1, data}}, {}));
      } else if (communicator->rank() == 1) {
        std::ranges::fill(data, std::byte{0});
        ASSERT_TRUE(communicator->Exchange({}, std::array{ReceiveFrom{0, data}}));
        ASSERT_EQ(data.back(), std::byte{7});
      }
      ASSERT_TRUE(communicator->Barrier());
    }
  });
}

TEST_P(Conformance, MemoryIsZeroedAlignedAndTheCallersAgainAfterEachOperation) {
  World world(GetParam(), 3);
  world.Run([&world](std::unique_ptr<Communicator> communicator) {
    const int rank = communicator->rank();
    auto memory = world.backend(rank).Allocate(400'000 * sizeof(int64_t));
    ASSERT_TRUE(memory);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % 4096, 0u);
    const std::span values(reinterpret_cast<int64_t*>(memory->data()), size_t{400'000});
    ASSERT_TRUE(std::ranges::all_of(values, [](int64_t v) { return v == 0; }));
    // A peer that still read after the return would see the next round's values.
    for (int64_t round = 1; round <= 30; ++round) {
      std::ranges::fill(values, round);
      ASSERT_TRUE(communicator->AllReduce(values, ReduceOp::kSum));
      ASSERT_TRUE(std::ranges::all_of(values, [round](int64_t v) { return v == 3 * round; }));
    }
  });
}

TEST_P(Conformance, TwoGenerationsWorkAtOnce) {
  World world(GetParam(), 3);
  world.Run([&world](std::unique_ptr<Communicator> first) {
    std::array<int32_t, 1> value{1};
    ASSERT_TRUE(first->AllReduce(value, ReduceOp::kSum));
    // The next generation is made while this one works, and outlives it.
    std::unique_ptr<Communicator> second;
    std::jthread connecting([&] {
      auto connected = world.backend(first->rank()).Connect(world.Request(first->rank(), 2), {});
      ASSERT_TRUE(connected) << connected.error().message;
      second = std::move(*connected);
    });
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(first->Barrier());
    connecting.join();
    ASSERT_TRUE(second);
    EXPECT_EQ(second->generation(), 2u);
    ASSERT_TRUE(first->Barrier());
    first.reset();
    ASSERT_TRUE(second->AllReduce(value, ReduceOp::kSum));
    EXPECT_EQ(value[0], 9);
  });
}

TEST_P(Conformance, ARankThatIsDoneMayCloseBeforeTheOthersHaveReadItsLastBytes) {
  for (int round = 0; round < 20; ++round) {
    World world(GetParam(), 4);
    world.Run([](std::unique_ptr<Communicator> communicator) {
      std::vector<int32_t> values(200'000, 1);
      ASSERT_TRUE(communicator->AllReduce(values, ReduceOp::kSum));
      ASSERT_EQ(values.back(), 4);
      communicator.reset();
    });
  }
}

}  // namespace
}  // namespace muster
