// What every backend must do when something goes wrong: end on every rank, soon, with the truth about who was at fault.
#include <array>
#include <latch>

#include "collectives/conformance_fixture.h"

namespace muster {
namespace {

using std::chrono::milliseconds;

class FailureConformance : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Backends, FailureConformance,
                         testing::Values(Kind::kInproc, Kind::kHostShared, Kind::kHostTcp),
                         KindName);

// All-reduces until it fails, and returns the error.
Error ReduceUntilError(Communicator& communicator, size_t count = 100'000) {
  std::vector<float> values(count, 1.0f);
  while (true) {
    Status status = communicator.AllReduce(values, ReduceOp::kSum);
    if (!status) return status.error();
  }
}

bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_P(FailureConformance, ARankThatClosesIsTheLostPeerOfAllOthers) {
  World world(GetParam(), 4);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 2) return;
    const Error error = ReduceUntilError(*communicator);
    EXPECT_EQ(error.code, Code::kAborted) << error.message;
    EXPECT_EQ(communicator->lost_peer(), 2);
    EXPECT_TRUE(Contains(communicator->revoke_reason(), "peer 2 (w-2) closed the connection"))
        << communicator->revoke_reason();
  });
}

TEST_P(FailureConformance, ARankThatClosesAmongManyOperationsIsTheLostPeer) {
  for (int round = 0; round < 20; ++round) {
    World world(GetParam(), 4);
    world.Run([round](std::unique_ptr<Communicator> communicator) {
      std::vector<float> values(50'000, 1.0f);
      for (int i = 0; communicator->rank() == 1 && i < round; ++i) {
        ASSERT_TRUE(communicator->AllReduce(values, ReduceOp::kSum));
      }
      if (communicator->rank() == 1) return;
      EXPECT_EQ(ReduceUntilError(*communicator, 50'000).code, Code::kAborted);
      EXPECT_EQ(communicator->lost_peer(), 1) << communicator->revoke_reason();
    });
  }
}

TEST_P(FailureConformance, ARankThatWaitsForSomethingElseNoticesADeath) {
  World world(GetParam(), 3);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 1) return;
    EXPECT_EQ(communicator->Barrier([] { return false; }).error().code, Code::kAborted);
    EXPECT_EQ(communicator->lost_peer(), 1) << communicator->revoke_reason();
  });
}

TEST_P(FailureConformance, WhatKeepsARankFromABarrierEndsAll) {
  World world(GetParam(), 3);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    const auto entered = [&]() -> Result<bool> {
      if (communicator->rank() != 2) return true;
      return Err(Code::kAborted, "the device is on fire");
    };
    EXPECT_EQ(communicator->Barrier(entered).error().code, Code::kAborted);
    EXPECT_EQ(communicator->revoke_reason(), "the device is on fire");
  });
}

TEST_P(FailureConformance, RevokeFromAnotherThreadWakesAllRanksWithItsReason) {
  World world(GetParam(), 4);
  std::latch others_done(3);
  world.Run([&](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 3) {
      // Never enters while the others wait for it; told by them when it does.
      others_done.wait();
      EXPECT_EQ(communicator->Barrier().error().code, Code::kAborted);
    } else {
      std::jthread revoker;
      std::atomic<bool> returned = false;
      if (communicator->rank() == 0) {
        revoker = std::jthread([&communicator, &returned, id = ThreadId()] {
          AwaitBlocked(id, returned);
          communicator->Revoke("the lead said so");
        });
      }
      const Status status = communicator->Barrier();
      returned = true;
      EXPECT_EQ(status.error().code, Code::kAborted);
      others_done.count_down();
    }
    EXPECT_TRUE(communicator->revoked());
    EXPECT_EQ(communicator->revoke_reason(), "the lead said so");
    EXPECT_EQ(communicator->lost_peer(), std::nullopt);
  });
}

TEST_P(FailureConformance, RevokeEndsOperationsInFullSwing) {
  for (int round = 0; round < 10; ++round) {
    World world(GetParam(), 3);
    world.Run([round](std::unique_ptr<Communicator> communicator) {
      std::jthread revoker;
      std::vector<float> values(700'000, 1.0f);
      if (communicator->rank() == 1) {
        ASSERT_TRUE(communicator->AllReduce(values, ReduceOp::kSum));
        revoker = std::jthread([&communicator, round] {
          std::this_thread::yield();
          communicator->Revoke(fmt::format("round {}", round));
          communicator->Revoke("too late");
        });
      }
      EXPECT_EQ(ReduceUntilError(*communicator, values.size()).code, Code::kAborted);
      EXPECT_EQ(communicator->revoke_reason(), fmt::format("round {}", round));
      EXPECT_EQ(communicator->lost_peer(), std::nullopt);
    });
  }
}

TEST_P(FailureConformance, ARevokedCommunicatorRefusesEverything) {
  World world(GetParam(), 2);
  world.Run([](std::unique_ptr<Communicator> communicator) {
    communicator->Revoke("over");
    std::array<float, 4> values{};
    std::array<std::byte, 2> bytes{};
    EXPECT_EQ(communicator->AllReduce(values, ReduceOp::kSum).error().code, Code::kAborted);
    EXPECT_EQ(communicator->ReduceScatter(values, ReduceOp::kSum).error().code, Code::kAborted);
    EXPECT_EQ(communicator->AllGather({bytes.data(), 1}, bytes).error().code, Code::kAborted);
    EXPECT_EQ(communicator->Broadcast(bytes, 0).error().code, Code::kAborted);
    EXPECT_EQ(communicator->Barrier().error().code, Code::kAborted);
    EXPECT_EQ(communicator->Exchange({}, {}).error().code, Code::kAborted);
  });
}

// Runs `body` in two ranks that disagree: at least one must say so, and both must end.
void ExpectDisagreement(Kind kind, const std::function<Status(Communicator&)>& body) {
  World world(kind, 2);
  std::atomic<int> invalid = 0;
  std::latch both(2);
  world.Run([&](std::unique_ptr<Communicator> communicator) {
    const Status status = body(*communicator);
    // A rank may not notice before its next operation.
    const Code code = status ? communicator->Barrier().error().code : status.error().code;
    EXPECT_TRUE(code == Code::kInvalidArgument || code == Code::kAborted) << CodeName(code);
    if (code == Code::kInvalidArgument) ++invalid;
    EXPECT_TRUE(communicator->revoked());
    EXPECT_EQ(communicator->lost_peer(), std::nullopt) << communicator->revoke_reason();
    both.arrive_and_wait();
  });
  EXPECT_GE(invalid, 1);
}

TEST_P(FailureConformance, DifferentCountsAreAnInvalidArgument) {
  for (const size_t count : {10, 2000, 500'000}) {
    ExpectDisagreement(GetParam(), [count](Communicator& communicator) {
      std::vector<float> values(count + static_cast<size_t>(communicator.rank()), 1.0f);
      return communicator.AllReduce(values, ReduceOp::kSum);
    });
  }
}

TEST_P(FailureConformance, DifferentOperationsAreAnInvalidArgument) {
  ExpectDisagreement(GetParam(), [](Communicator& communicator) {
    std::array<float, 4> floats{};
    std::array<int32_t, 4> integers{};
    return communicator.rank() == 0 ? communicator.AllReduce(floats, ReduceOp::kSum)
                                    : communicator.AllReduce(integers, ReduceOp::kSum);
  });
  ExpectDisagreement(GetParam(), [](Communicator& communicator) {
    std::array<float, 4> values{};
    return communicator.rank() == 0 ? communicator.AllReduce(values, ReduceOp::kSum)
                                    : communicator.AllReduce(values, ReduceOp::kMax);
  });
  ExpectDisagreement(GetParam(), [](Communicator& communicator) {
    std::array<float, 4> values{};
    return communicator.rank() == 0 ? communicator.AllReduce(values, ReduceOp::kSum)
                                    : communicator.Barrier();
  });
}

TEST_P(FailureConformance, AnExchangeWhoseSidesDifferIsAnInvalidArgument) {
  ExpectDisagreement(GetParam(), [](Communicator& communicator) {
    std::vector<std::byte> data(10 + static_cast<size_t>(communicator.rank()));
    return communicator.rank() == 0 ? communicator.Exchange(std::array{SendTo{1, data}}, {})
                                    : communicator.Exchange({}, std::array{ReceiveFrom{0, data}});
  });
}

TEST_P(FailureConformance, ArgumentsOutOfRangeAreInvalidAndEndTheGeneration) {
  const std::vector<std::function<Status(Communicator&)>> mistakes{
      [](Communicator& c) { return c.Broadcast({}, 2); },
      [](Communicator& c) { return c.Broadcast({}, -1); },
      [](Communicator& c) {
        std::array<std::byte, 3> bytes{};
        return c.AllGather({bytes.data(), 1}, bytes);
      },
      [](Communicator& c) {
        return c.Exchange(std::array{SendTo{2, {}}}, {});
      },
      [](Communicator& c) {
        return c.Exchange({}, std::array{ReceiveFrom{-1, {}}});
      }};
  for (const auto& mistake : mistakes) {
    World world(GetParam(), 2);
    world.Run([&mistake](std::unique_ptr<Communicator> communicator) {
      if (communicator->rank() == 0) {
        EXPECT_EQ(mistake(*communicator).error().code, Code::kInvalidArgument);
      } else {
        EXPECT_EQ(communicator->Barrier().error().code, Code::kAborted);
      }
      EXPECT_TRUE(communicator->revoked());
      EXPECT_EQ(communicator->lost_peer(), std::nullopt);
    });
  }
}

TEST_P(FailureConformance, ASilentPeerIsNamedAfterTheOperationTimeout) {
  World world(GetParam(), 4);
  std::latch others_done(3);
  std::atomic<int> deadlines = 0;
  const auto body = [&](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 1) return others_done.wait();
    std::vector<float> values(100'000, 1.0f);
    const TimePoint start = MonotonicNow();
    const Error error = communicator->AllReduce(values, ReduceOp::kSum).error();
    EXPECT_GE(MonotonicNow() - start, milliseconds(200));
    EXPECT_TRUE(error.code == Code::kDeadlineExceeded || error.code == Code::kAborted);
    if (error.code == Code::kDeadlineExceeded) ++deadlines;
    EXPECT_TRUE(Contains(communicator->revoke_reason(), "(w-1)")) << error.message;
    EXPECT_FALSE(Contains(communicator->revoke_reason(), "(w-2)")) << error.message;
    EXPECT_EQ(communicator->lost_peer(), 1);
    others_done.count_down();
  };
  world.Run(body, 1, milliseconds(300));
  EXPECT_GE(deadlines, 1);
}

TEST_P(FailureConformance, ConnectNamesThePeersThatAreMissing) {
  World world(GetParam(), 4);
  std::vector<std::jthread> threads;
  for (const int rank : {1, 2}) {
    threads.emplace_back([&world, rank] {
      ConnectRequest request = world.Request(rank);
      request.connect_timeout = milliseconds(300);
      const auto communicator = world.backend(rank).Connect(request, {});
      ASSERT_FALSE(communicator);
      EXPECT_EQ(communicator.error().code, Code::kDeadlineExceeded);
      EXPECT_TRUE(Contains(communicator.error().message, "w-0")) << communicator.error().message;
      EXPECT_TRUE(Contains(communicator.error().message, "w-3")) << communicator.error().message;
    });
  }
}

TEST_P(FailureConformance, ConnectEndsAtOnceWhenItIsCancelled) {
  World world(GetParam(), 3);
  std::stop_source stop;
  const TimePoint start = MonotonicNow();
  {
    std::jthread connecting([&] {
      const auto communicator = world.backend(1).Connect(world.Request(1), stop.get_token());
      ASSERT_FALSE(communicator);
      EXPECT_EQ(communicator.error().code, Code::kCancelled) << communicator.error().message;
    });
    stop.request_stop();
  }
  EXPECT_LT(MonotonicNow() - start, std::chrono::seconds(5));
}

TEST_P(FailureConformance, ConnectOfAGenerationCanBeTriedAgain) {
  World world(GetParam(), 2);
  ConnectRequest hasty = world.Request(1);
  hasty.connect_timeout = milliseconds(100);
  ASSERT_FALSE(world.backend(1).Connect(hasty, {}));
  world.Run(
      [](std::unique_ptr<Communicator> communicator) { EXPECT_TRUE(communicator->Barrier()); });
}

TEST_P(FailureConformance, ARankOutsideOfThePeersIsAnInvalidArgument) {
  World world(GetParam(), 2);
  EXPECT_EQ(world.backend(0).Connect(world.Request(2), {}).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace muster
