#include "collectives/inproc/meeting.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "collectives/await_blocked.h"

namespace muster {
namespace {

TEST(Meeting, ATransferThatFailsWaitsForTheReaderOfItsMemory) {
  Meeting meeting({{"w-0", "a"}, {"w-1", "b"}});
  const std::array<std::byte, 4> data{};
  std::atomic<pid_t> sender_id = 0;
  std::atomic<bool> returned = false;
  std::jthread sender([&] {
    sender_id = ThreadId();
    const Status status =
        meeting.Transfer(0, "test", 4, std::array{SendTo{1, data}}, {}, std::chrono::seconds(60));
    returned = true;
    EXPECT_EQ(status.error().code, Code::kAborted);
  });
  const Meeting::Read read{0, 4, [&](std::span<const std::byte>) {
                             meeting.Revoke("in the middle of a read", std::nullopt);
                             // Woken by the revocation, it either returns, which is wrong, or waits again.
                             AwaitBlocked(sender_id, returned);
                             EXPECT_FALSE(returned);
                           }};
  (void)meeting.Transfer(1, "test", 4, {}, std::array{read}, std::chrono::seconds(60));
}

}  // namespace
}  // namespace muster
