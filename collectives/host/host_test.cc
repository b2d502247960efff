// What only the host backend has: its options, its handshake, its listener, its memory.
#include "collectives/host/host.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "collectives/conformance_fixture.h"
#include "collectives/host/address.h"
#include "collectives/host/arena.h"
#include "collectives/host/frame.h"
#include "collectives/host/handshake.h"
#include "collectives/host/link.h"
#include "collectives/host/parking.h"

namespace muster {
namespace {

using host::Address;
using std::chrono::milliseconds;

TEST(HostOptions, RefusesWhatCannotWorkNamingTheField) {
  const auto refused = [](auto change) {
    HostOptions options = TestHostOptions(Kind::kHostShared);
    change(options);
    const Status status = options.Validate();
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(refused([](HostOptions&) {}), "");
  EXPECT_NE(refused([](HostOptions& o) { o.secret = "short"; }).find("secret"), std::string::npos);
  EXPECT_NE(refused([](HostOptions& o) { o.job = ""; }).find("job"), std::string::npos);
  EXPECT_NE(refused([](HostOptions& o) { o.chunk_bytes = 5; }).find("chunk_bytes"),
            std::string::npos);
  EXPECT_NE(refused([](HostOptions& o) { o.listen_address = "localhost"; }).find("localhost"),
            std::string::npos);
  EXPECT_NE(refused([](HostOptions& o) { o.listen_address = "0.0.0.0"; }).find("0.0.0.0"),
            std::string::npos);
}

TEST(HostAddress, IsReadAsItWasWritten) {
  for (const std::string text :
       {"127.0.0.1:4000/boot/muster-0a", "[::1]:65535/b-1/", "10.0.0.1:1//"}) {
    const auto address = Address::Parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->ToString(), text);
  }
}

TEST(HostAddress, RefusesEverythingElse) {
  for (const std::string text :
       {"", "/", "//", "127.0.0.1/a/b", "127.0.0.1:0/a/b", "127.0.0.1:65536/a/b", "host:1/a/b",
        "127.0.0.1:4x/a/b", "127.0.0.1:4/a", "127.0.0.1:4/a b/c", "127.0.0.1:4/a/b/c",
        "[::1:4/a/b"}) {
    EXPECT_FALSE(Address::Parse(text)) << text;
  }
  EXPECT_FALSE(Address::Parse("127.0.0.1:4/a/" + std::string(101, 'x')));
}

TEST(HostArena, FindsRangesWithinOneAllocation) {
  host::Arena arena;
  const auto first = arena.Allocate(10'000).value();
  const auto second = arena.Allocate(5000).value();
  EXPECT_EQ(arena.Find(first)->segment, 0u);
  EXPECT_EQ(arena.Find(second.subspan(100, 50))->segment, 1u);
  EXPECT_EQ(arena.Find(second.subspan(100, 50))->offset, 100u);
  std::vector<std::byte> ordinary(100);
  EXPECT_FALSE(arena.Find(ordinary));
  EXPECT_FALSE(arena.Find({first.data() - 1, 10}));
  EXPECT_FALSE(arena.Find({first.data(), 12'289}));
}

TEST(HostArena, SegmentsCannotBeWrittenShrunkOrGrownByAPeer) {
  host::Arena arena;
  ASSERT_TRUE(arena.Allocate(8192));
  const auto segment = arena.segment(0);
  EXPECT_NE(::ftruncate(segment.fd, 0), 0);
  EXPECT_NE(::ftruncate(segment.fd, 1 << 20), 0);
  EXPECT_LT(::write(segment.fd, "x", 1), 0);
  void* writable = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, segment.fd, 0);
  EXPECT_EQ(writable, MAP_FAILED);
}

TEST(HostArena, ARemoteSegmentIsOnlyUsedInsideItsBoundsAndIfItIsSealed) {
  host::Arena arena;
  const auto memory = arena.Allocate(8192).value();
  memory[8000] = std::byte{42};
  host::RemoteArena remote;
  ASSERT_TRUE(remote.Add(0, 8192, UniqueFd(::dup(arena.segment(0).fd))));
  EXPECT_EQ(*remote.Find(0, 8000, 1), std::byte{42});
  EXPECT_EQ(remote.Find(0, 8000, 193), nullptr);
  EXPECT_EQ(remote.Find(0, UINT64_MAX, 2), nullptr);
  EXPECT_EQ(remote.Find(1, 0, 1), nullptr);
  EXPECT_FALSE(remote.Add(0, 8192, UniqueFd(::dup(arena.segment(0).fd)))) << "known already";
  EXPECT_FALSE(remote.Add(1, 8193, UniqueFd(::dup(arena.segment(0).fd)))) << "larger than it is";
  EXPECT_FALSE(remote.Add(1, 4096, UniqueFd())) << "no descriptor";
  UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(unsealed.get(), 4096), 0);
  EXPECT_FALSE(remote.Add(1, 4096, std::move(unsealed))) << "its owner could cut it off";
}

// The world of two ranks whose rank 1 differs; returns the error of rank 1 and that of rank 0.
std::pair<Error, Error> ConnectDiffering(const std::function<void(HostOptions&, int)>& adjust) {
  World world(Kind::kHostShared, 2, adjust);
  std::array<Error, 2> errors;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        ConnectRequest request = world.Request(rank);
        request.connect_timeout = milliseconds(500);
        auto communicator = world.backend(rank).Connect(request, {});
        if (!communicator) errors[static_cast<size_t>(rank)] = communicator.error();
      });
    }
  }
  return {errors[1], errors[0]};
}

TEST(HostHandshake, RefusesAPeerWithAnotherSecretOrAnotherJob) {
  for (const bool tcp : {true, false}) {
    const auto [secret, acceptor] = ConnectDiffering([tcp](HostOptions& options, int rank) {
      options.shared_memory = !tcp;
      if (rank == 1) options.secret += "x";
    });
    EXPECT_EQ(secret.code, Code::kUnauthenticated) << secret.message;
    EXPECT_NE(secret.message.find("w-0"), std::string::npos) << secret.message;
    EXPECT_EQ(acceptor.code, Code::kDeadlineExceeded);
    EXPECT_NE(acceptor.message.find("w-1"), std::string::npos) << acceptor.message;
    const auto [job, other] = ConnectDiffering([tcp](HostOptions& options, int rank) {
      options.shared_memory = !tcp;
      if (rank == 1) options.job.back() = 'x';
    });
    EXPECT_EQ(job.code, Code::kUnauthenticated) << job.message;
    EXPECT_EQ(other.code, Code::kDeadlineExceeded);
  }
}

TEST(HostHandshake, RefusesAPeerThatCutsMessagesDifferently) {
  const auto [connector, acceptor] = ConnectDiffering([](HostOptions& options, int rank) {
    if (rank == 1) options.chunk_bytes *= 2;
  });
  EXPECT_EQ(connector.code, Code::kInvalidArgument) << connector.message;
  EXPECT_NE(connector.message.find("chunk_bytes"), std::string::npos);
  EXPECT_EQ(acceptor.code, Code::kDeadlineExceeded);
}

TEST(HostHandshake, AnEarlyPeerIsToldThatTheOtherHasNotJoined) {
  World world(Kind::kHostShared, 2);
  ConnectRequest request = world.Request(1);
  request.connect_timeout = milliseconds(300);
  const auto communicator = world.backend(1).Connect(request, {});
  ASSERT_FALSE(communicator);
  EXPECT_NE(communicator.error().message.find("w-0): it has not joined this generation"),
            std::string::npos)
      << communicator.error().message;
}

TEST(HostHandshake, MixesPeersWithAndWithoutSharedMemory) {
  World world(Kind::kHostShared, 3,
              [](HostOptions& options, int rank) { options.shared_memory = rank != 1; });
  world.Run([&world](std::unique_ptr<Communicator> communicator) {
    auto memory = world.backend(communicator->rank()).Allocate(1 << 22);
    const std::span values(reinterpret_cast<int32_t*>(memory->data()), size_t{1} << 20);
    std::ranges::fill(values, communicator->rank() + 1);
    ASSERT_TRUE(communicator->AllReduce(values, ReduceOp::kSum));
    EXPECT_TRUE(std::ranges::all_of(values, [](int32_t v) { return v == 6; }));
  });
}

host::SocketAddress TcpOf(Backend& backend) {
  const Address address = Address::Parse(backend.address()).value();
  return host::TcpAddress(address.ip, address.port).value();
}

TEST(HostListener, SurvivesRandomBytesAndConnectionsThatSayNothing) {
  World world(Kind::kHostShared, 2);
  std::mt19937 random(7);
  std::vector<UniqueFd> connections;
  for (int i = 0; i < 200; ++i) {
    const Address address = Address::Parse(world.backend(0).address()).value();
    auto fd = host::StartConnect(i % 2 ? TcpOf(world.backend(0))
                                       : host::AbstractAddress(address.abstract_name));
    ASSERT_TRUE(fd);
    pollfd writable{.fd = fd->get(), .events = POLLOUT};
    ::poll(&writable, 1, 1000);
    std::vector<uint8_t> noise(random() % 400);
    std::ranges::generate(noise, [&random] { return static_cast<uint8_t>(random()); });
    const iovec piece{noise.data(), noise.size()};
    (void)host::Send(fd->get(), {&piece, 1});
    connections.push_back(std::move(*fd));
  }
  world.Run(
      [](std::unique_ptr<Communicator> communicator) { EXPECT_TRUE(communicator->Barrier()); });
}

TEST(HostParking, KeepsTheNewestConnectionOfAPeerAndForgetsOldOnes) {
  host::Parking parking;
  const TimePoint start = MonotonicNow();
  std::vector<UniqueFd> far_ends;
  const auto park = [&](uint64_t generation, int rank, TimePoint now) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    far_ends.emplace_back(ends[1]);
    parking.Park({UniqueFd(ends[0]), {generation, rank, 0, 9}, false}, now);
  };
  park(1, 3, start);
  park(1, 3, start);
  far_ends[0].reset();
  EXPECT_TRUE(parking.Claim(1, 3)) << "the newer one is alive";
  EXPECT_FALSE(parking.Claim(1, 3)) << "claimed already";
  park(2, 3, start);
  EXPECT_FALSE(parking.Claim(1, 3));
  EXPECT_FALSE(parking.Claim(2, 4));
  parking.Expire(start + host::Parking::kParkingTime);
  EXPECT_FALSE(parking.Claim(2, 3)) << "expired";
  park(3, 3, start);
  far_ends.back().reset();
  EXPECT_FALSE(parking.Claim(3, 3)) << "its peer has hung up";
}

// A rank 1 that has proven itself to rank 0 of `world` and then speaks for itself.
UniqueFd ConnectAsRankOne(World& world, std::unique_ptr<Communicator>& rank_zero) {
  const HostOptions options = TestHostOptions(Kind::kHostTcp);
  auto credentials = std::make_shared<host::Credentials>();
  *credentials = {options.job, options.secret, options.chunk_bytes, nullptr};
  std::jthread connecting([&] {
    auto communicator = world.backend(0).Connect(world.Request(0), {});
    ASSERT_TRUE(communicator) << communicator.error().message;
    rank_zero = std::move(*communicator);
  });
  // On a busy machine the listener may lose patience with us, as with anybody.
  for (int attempt = 0; attempt < 20; ++attempt) {
    auto handshake = host::Handshake::Connect(host::StartConnect(TcpOf(world.backend(0))).value(),
                                              false, credentials, {1, 1, 0, 2});
    auto progress = handshake.Advance();
    while (progress == host::Handshake::Progress::kPending) {
      pollfd entry{.fd = handshake.fd(), .events = handshake.events()};
      ::poll(&entry, 1, 1000);
      progress = handshake.Advance();
    }
    if (progress == host::Handshake::Progress::kDone) return std::move(handshake).Take().fd;
  }
  ADD_FAILURE() << "no handshake came to its end";
  return UniqueFd();
}

TEST(HostLink, NamesThePeerThatSendsAMalformedFrame) {
  using host::Frame;
  using host::FrameType;
  const std::vector<Frame> malformed{
      {.magic = 1},
      {.type = static_cast<FrameType>(0)},
      {.type = static_cast<FrameType>(99)},
      {.type = FrameType::kInline, .bytes = uint64_t{1} << 40},
      {.type = FrameType::kDone, .sequence = 1},
      {.type = FrameType::kSegment, .bytes = 4096},
      {.type = FrameType::kRevoke, .bytes = 513},
      {.type = FrameType::kRevoke, .rank = 2},
      {.type = FrameType::kShared, .operation = host::Operation{}.code()},
      {.type = FrameType::kInline, .operation = host::Operation{}.code(), .sequence = 1}};
  for (const Frame& frame : malformed) {
    World world(Kind::kHostTcp, 2);
    std::unique_ptr<Communicator> communicator;
    const UniqueFd fd = ConnectAsRankOne(world, communicator);
    const iovec piece{const_cast<Frame*>(&frame), sizeof(frame)};
    ASSERT_EQ(host::Send(fd.get(), {&piece, 1}).bytes, sizeof(frame));
    const Status status = communicator->Barrier();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kAborted);
    EXPECT_EQ(communicator->lost_peer(), 1);
    EXPECT_NE(status.error().message.find("peer 1 (w-1) sent a malformed frame"), std::string::npos)
        << status.error().message;
  }
}

// A link over a socket pair, and the other end, which has just shown 64 KiB of its memory.
class SharedMessage : public testing::Test {
 protected:
  static constexpr size_t kBytes = 65536;

  SharedMessage() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    peer_ = UniqueFd(ends[1]);
    link_ = std::make_unique<host::Link>(host::Connection{UniqueFd(ends[0]), {1, 1, 0, 2}, true},
                                         "w-1", 1, kBytes, std::make_shared<host::Arena>());
    memory_ = peer_arena_.Allocate(kBytes).value();
    const host::Frame segment{.type = host::FrameType::kSegment, .bytes = kBytes};
    const iovec announcement{const_cast<host::Frame*>(&segment), sizeof(segment)};
    EXPECT_EQ(host::Send(peer_.get(), {&announcement, 1}, peer_arena_.segment(0).fd).bytes,
              sizeof(segment));
    const host::Frame shared{.type = host::FrameType::kShared,
                             .operation = operation_.code(),
                             .bytes = kBytes,
                             .total = kBytes};
    Say(std::string(reinterpret_cast<const char*>(&shared), sizeof(shared)));
  }

  void Say(std::string bytes) {
    const iovec piece{bytes.data(), bytes.size()};
    EXPECT_EQ(host::Send(peer_.get(), {&piece, 1}).bytes, bytes.size());
  }

  const host::Operation operation_{.kind = host::Operation::Kind::kExchange, .total = kBytes};
  UniqueFd peer_;
  host::Arena peer_arena_;
  std::span<std::byte> memory_;
  std::unique_ptr<host::Link> link_;
  std::vector<std::byte> into_ = std::vector<std::byte>(kBytes);
};

TEST_F(SharedMessage, IsCopiedAndAnswered) {
  memory_[kBytes - 1] = std::byte{9};
  link_->Receive(operation_, into_);
  EXPECT_FALSE(link_->Read());
  EXPECT_EQ(into_.back(), std::byte{9});
  EXPECT_FALSE(link_->Idle());
  EXPECT_FALSE(link_->Write(true));
  EXPECT_TRUE(link_->Idle());
}

TEST_F(SharedMessage, IsNotTrustedIfThePeerHasGivenUpBeforeTheAnswer) {
  link_->Receive(operation_, into_);
  EXPECT_FALSE(link_->Read());
  Say(host::RevokeFrame("given up", 0));
  const auto trouble = link_->Write(true);
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->reason, "given up");
}

TEST_F(SharedMessage, IsNotTrustedIfThePeerHasClosedBeforeTheAnswer) {
  link_->Receive(operation_, into_);
  EXPECT_FALSE(link_->Read());
  peer_.reset();
  const auto trouble = link_->Write(true);
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->lost_peer, 1);
}

TEST_F(SharedMessage, IsNotUsedFurtherIfThePeerHasGivenUpWhileItWasReduced) {
  const std::byte* view = nullptr;
  link_->ReceiveView(operation_, kBytes, 0, {}, &view);
  EXPECT_FALSE(link_->Read());
  EXPECT_NE(view, nullptr);
  Say(host::RevokeFrame("given up", 0));
  const auto trouble = link_->Consumed();
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->reason, "given up");
}

// A posted message of no bytes has no memory at all.
TEST_F(SharedMessage, MayBeOfNoBytes) {
  const host::Operation empty{.kind = host::Operation::Kind::kExchange};
  link_->Receive(operation_, into_);
  link_->Receive(empty, {});
  const host::Frame frame{
      .type = host::FrameType::kShared, .operation = empty.code(), .sequence = 1};
  Say(std::string(reinterpret_cast<const char*>(&frame), sizeof(frame)));
  EXPECT_FALSE(link_->Read());
  EXPECT_EQ(link_->taken(), 2U);
}

TEST_F(SharedMessage, IsFollowedByARevocationThatGivesNoReason) {
  Say(host::RevokeFrame("", 0));
  link_->Receive(operation_, into_);
  const auto trouble = link_->Read();
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->reason, "peer 1 (w-1) ended the generation and gave no reason");
}

TEST(HostLink, AnswersNoiseAfterTheHandshakeWithAnError) {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    World world(Kind::kHostTcp, 2);
    std::unique_ptr<Communicator> communicator;
    UniqueFd fd = ConnectAsRankOne(world, communicator);
    std::vector<uint8_t> noise(random() % 2000);
    std::ranges::generate(noise, [&random] { return static_cast<uint8_t>(random()); });
    // Some rounds begin like a frame, so that more than the magic is tried.
    if (round % 2 == 0 && noise.size() > sizeof(host::Frame)) {
      noise[0] = 0x46, noise[1] = 0x52, noise[2] = 0x4d, noise[3] = 0x45;
      noise[4] = static_cast<uint8_t>(1 + random() % 5), noise[5] = 0;
    }
    const iovec piece{noise.data(), noise.size()};
    (void)host::Send(fd.get(), {&piece, 1});
    fd.reset();
    std::vector<float> values(10'000);
    EXPECT_EQ(communicator->AllReduce(values, ReduceOp::kSum).error().code, Code::kAborted);
    EXPECT_EQ(communicator->lost_peer(), 1);
  }
}

TEST(HostLink, ARevocationsReasonIsMadePrintable) {
  World world(Kind::kHostTcp, 2);
  std::unique_ptr<Communicator> communicator;
  const UniqueFd fd = ConnectAsRankOne(world, communicator);
  std::string words = host::RevokeFrame("bell \a and \x1b[2J", 0);
  const iovec piece{words.data(), words.size()};
  (void)host::Send(fd.get(), {&piece, 1});
  EXPECT_EQ(communicator->Barrier().error().code, Code::kAborted);
  EXPECT_EQ(communicator->revoke_reason(), "bell ? and ?[2J");
  EXPECT_EQ(communicator->lost_peer(), 0);
}

}  // namespace
}  // namespace muster
