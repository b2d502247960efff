#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "runtime/state/checkpoint.h"
#include "runtime/state/checkpoint_test_util.h"

namespace muster {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

TimePoint Soon() { return MonotonicNow() + kPatience; }

TEST(CheckpointWriter, WritesTheStateAsItWasWhenSubmitted) {
  const TemporaryFolder folder;
  std::vector<uint64_t> done;  // by the writer's thread, read after Flush
  CheckpointWriter writer(folder.path(), SomeFacts(), 3, [&](uint64_t step, const Status& status) {
    EXPECT_TRUE(status);
    done.push_back(step);
  });
  State state = StateAt(5);
  ASSERT_TRUE(writer.Submit(state));
  state = StateAt(6);
  ASSERT_TRUE(writer.Flush(Soon()));
  EXPECT_EQ(done, std::vector<uint64_t>{5});
  State loaded(SomeTensors());
  ASSERT_TRUE(LoadNewestCheckpoint(folder.path(), SomeFacts(), loaded));
  EXPECT_TRUE(SameBits(loaded, StateAt(5)));
}

TEST(CheckpointWriter, RefusesASecondOneWhileItWrites) {
  const TemporaryFolder folder;
  std::promise<void> entered;
  std::promise<void> release;
  bool first = true;
  CheckpointWriter writer(folder.path(), SomeFacts(), 3, [&](uint64_t, const Status&) {
    if (!std::exchange(first, false)) return;
    entered.set_value();
    release.get_future().wait_for(kPatience);
  });
  ASSERT_TRUE(writer.Submit(StateAt(1)));
  ASSERT_EQ(entered.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_FALSE(writer.Submit(StateAt(2)));
  const Status early = writer.Flush(MonotonicNow());
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Code::kDeadlineExceeded);
  EXPECT_NE(early.error().message.find(folder.path().string()), std::string::npos);
  release.set_value();
  ASSERT_TRUE(writer.Flush(Soon()));
  EXPECT_TRUE(writer.Submit(StateAt(3)));
  ASSERT_TRUE(writer.Flush(Soon()));
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"step-000000000001", "step-000000000003"}));
}

TEST(CheckpointWriter, WritesWhatWasSubmittedBeforeItIsDestroyed) {
  const TemporaryFolder folder;
  { ASSERT_TRUE(CheckpointWriter(folder.path(), SomeFacts(), 3, nullptr).Submit(StateAt(8))); }
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"step-000000000008"});
}

TEST(CheckpointWriter, EndsAtOnceWhenNothingWasSubmitted) {
  const TemporaryFolder folder;
  CheckpointWriter writer(folder.path(), SomeFacts(), 3, nullptr);
  EXPECT_TRUE(writer.Flush(MonotonicNow()));
}

TEST(CheckpointWriter, CountsAndTellsAFailureAndGoesOn) {
  const TemporaryFolder folder;
  const std::filesystem::path directory = folder.path() / "checkpoints";
  Overwrite(directory, "a file in the way");
  int failed = 0;
  CheckpointWriter writer(directory, SomeFacts(), 3,
                          [&](uint64_t, const Status& status) { failed += status ? 0 : 1; });
  ASSERT_TRUE(writer.Submit(StateAt(1)));
  EXPECT_FALSE(writer.Flush(Soon()));
  EXPECT_EQ(writer.failures(), 1u);
  EXPECT_EQ(failed, 1);
  std::filesystem::remove(directory);
  ASSERT_TRUE(writer.Submit(StateAt(2)));
  EXPECT_TRUE(writer.Flush(Soon()));
  EXPECT_EQ(writer.failures(), 1u);
}

TEST(CheckpointWriter, TakesSubmitsFromSeveralThreads) {
  const TemporaryFolder folder;
  std::atomic<int> accepted = 0;
  std::atomic<int> done = 0;
  {
    CheckpointWriter writer(folder.path(), SomeFacts(), 100,
                            [&](uint64_t, const Status& status) { done += status ? 1 : 0; });
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&writer, &accepted, t] {
        for (uint64_t i = 0; i < 20; ++i) accepted += writer.Submit(StateAt(100 * t + i)) ? 1 : 0;
      });
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_EQ(done, accepted);
  EXPECT_EQ(folder.Names().size(), static_cast<size_t>(accepted));
}

}  // namespace
}  // namespace muster
