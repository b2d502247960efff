#include <gtest/gtest.h>

#include <future>

#include "runtime/base/pause.h"
#include "runtime/state/checkpoint.h"
#include "runtime/state/checkpoint_test_util.h"

namespace muster {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

TimePoint Soon() { return MonotonicNow() + kPatience; }

bool Submit(CheckpointWriter& writer, const State& state) {
  const bool taken = writer.Submit(state);
  writer.EndCopy();
  return taken;
}

TEST(CheckpointWriter, WritesTheStateAsItWasWhenSubmitted) {
  const TemporaryFolder folder;
  std::vector<uint64_t> done;  // by the writer's thread, read after Flush
  CheckpointWriter writer(folder.path(), SomeFacts(), 3, [&](uint64_t step, const Status& status) {
    EXPECT_TRUE(status);
    done.push_back(step);
  });
  State state = StateAt(5);
  ASSERT_TRUE(Submit(writer, state));
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
  ASSERT_TRUE(Submit(writer, StateAt(1)));
  ASSERT_EQ(entered.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_FALSE(Submit(writer, StateAt(2)));
  const Status early = writer.Flush(MonotonicNow());
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Code::kDeadlineExceeded);
  EXPECT_NE(early.error().message.find(folder.path().string()), std::string::npos);
  release.set_value();
  ASSERT_TRUE(writer.Flush(Soon()));
  EXPECT_TRUE(Submit(writer, StateAt(3)));
  ASSERT_TRUE(writer.Flush(Soon()));
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"step-000000000001", "step-000000000003"}));
}

TEST(CheckpointWriter, WritesWhatWasSubmittedBeforeItIsDestroyed) {
  const TemporaryFolder folder;
  const State state = StateAt(8);
  { ASSERT_TRUE(CheckpointWriter(folder.path(), SomeFacts(), 3, nullptr).Submit(state)); }
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
  ASSERT_TRUE(Submit(writer, StateAt(1)));
  EXPECT_FALSE(writer.Flush(Soon()));
  EXPECT_EQ(writer.failures(), 1u);
  EXPECT_EQ(failed, 1);
  std::filesystem::remove(directory);
  ASSERT_TRUE(Submit(writer, StateAt(2)));
  EXPECT_TRUE(writer.Flush(Soon()));
  EXPECT_EQ(writer.failures(), 1u);
}

TEST(CheckpointWriter, CopiesBesideAComputationThatEndsAtAnyMoment) {
  const TemporaryFolder folder;
  const std::vector<TensorSpec> tensors = {{"parameter/large", "F32", {1 << 18}}};
  State state = StateAt(0, tensors);
  CheckpointWriter writer(folder.path(), SomeFacts(), 3, nullptr);
  writer.Prepare(state);
  for (uint64_t step = 1; step <= 8; ++step) {
    state = StateAt(step, tensors);
    ASSERT_TRUE(writer.Submit(state));
    PauseFor(std::chrono::microseconds(40 * (step % 4)), {});  // the computation
    writer.EndCopy();
    std::ranges::fill(state.tensor_bytes(0), std::byte{0xff});
    ASSERT_TRUE(writer.Flush(Soon()));
    State loaded(tensors);
    ASSERT_TRUE(LoadNewestCheckpoint(folder.path(), SomeFacts(), loaded));
    ASSERT_TRUE(SameBits(loaded, StateAt(step, tensors))) << "step " << step;
  }
}

}  // namespace
}  // namespace muster
