// What WriteCheckpoint leaves on the disk and what the loading functions accept. Damage, crashes and full disks:
// checkpoint_damage_test.cc and checkpoint_crash_test.cc.
#include "runtime/state/checkpoint.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "runtime/state/checkpoint_folder.h"
#include "runtime/state/checkpoint_test_util.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

void Write(const TemporaryFolder& folder, uint64_t step, int keep = 3) {
  const Status status = WriteCheckpoint(folder.path(), StateAt(step), SomeFacts(), keep);
  ASSERT_TRUE(status) << status.error().ToString();
}

Result<LoadedCheckpoint> LoadNewest(const TemporaryFolder& folder, State& state) {
  return LoadNewestCheckpoint(folder.path(), SomeFacts(), state);
}

TEST(Checkpoint, KeepsEveryBitOfTheState) {
  const TemporaryFolder folder;
  Write(folder, 120);
  EXPECT_EQ(folder.Names(), Names{"step-000000000120"});
  State state(SomeTensors());
  const float* memory = state.tensor<float>(0).data();
  const auto loaded = LoadNewest(folder, state);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
  EXPECT_EQ(loaded->entry.step, 120u);
  EXPECT_EQ(loaded->entry.folder, StepFolder(folder, 120));
  EXPECT_TRUE(loaded->refused.empty());
  EXPECT_TRUE(SameBits(state, StateAt(120)));
  EXPECT_EQ(state.page_version(0), 180u) << "120 steps and 60 raises";
  EXPECT_EQ(state.tensor<float>(0).data(), memory) << "spans of the state must stay valid";
}

TEST(Checkpoint, TheSameStateGivesTheSameFiles) {
  const TemporaryFolder a;
  const TemporaryFolder b;
  Write(a, 7);
  Write(b, 7);
  for (const char* name : {"state.safetensors", "manifest.json"}) {
    EXPECT_EQ(ReadAll(StepFolder(a, 7) / name), ReadAll(StepFolder(b, 7) / name)) << name;
  }
}

TEST(Checkpoint, CreatesTheDirectory) {
  const TemporaryFolder folder;
  const fs::path directory = folder.path() / "a" / "b";
  ASSERT_TRUE(WriteCheckpoint(directory, StateAt(1), SomeFacts()));
  EXPECT_EQ(ListCheckpoints(directory).size(), 1u);
}

TEST(Checkpoint, ListsTheNewestFirstAndOnlyItsOwnNames) {
  const TemporaryFolder folder;
  EXPECT_TRUE(ListCheckpoints(folder.path() / "missing").empty());
  for (const uint64_t step : {uint64_t{9}, uint64_t{100}, uint64_t{0}, uint64_t{2000000000000}}) {
    Write(folder, step, 10);
  }
  for (const char* name : {"step-12", "step-0000000000x1", "step-000000000001.old", "step-",
                           ".step-000000000003.tmp-1", "step--00000000001", "step-+00000000001"}) {
    fs::create_directory(folder.path() / name);
  }
  Overwrite(folder.path() / "step-000000000555", "a file");
  std::vector<uint64_t> steps;
  for (const auto& entry : ListCheckpoints(folder.path())) steps.push_back(entry.step);
  EXPECT_EQ(steps, (std::vector<uint64_t>{2000000000000, 100, 9, 0}));
}

TEST(Checkpoint, KeepsTheNewestOnes) {
  const TemporaryFolder folder;
  for (uint64_t step = 1; step <= 5; ++step) Write(folder, step, 2);
  EXPECT_EQ(folder.Names(), (Names{"step-000000000004", "step-000000000005"}));
}

TEST(Checkpoint, RetentionNeverDeletesTheOneJustWrittenForLaterOnesThatWereRefused) {
  const TemporaryFolder folder;
  for (const uint64_t step : {10, 20, 30}) Write(folder, step);
  fs::resize_file(StepFolder(folder, 30) / "state.safetensors", 10);
  fs::resize_file(StepFolder(folder, 20) / "state.safetensors", 10);
  State state(SomeTensors());
  ASSERT_TRUE(LoadNewest(folder, state));
  ASSERT_EQ(state.step(), 10u);
  Write(folder, 15, 1);
  EXPECT_EQ(folder.Names(), (Names{"step-000000000015", "step-000000000020", "step-000000000030"}));
  const auto loaded = LoadNewest(folder, state);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->entry.step, 15u);
  EXPECT_EQ(loaded->refused.size(), 2u);
}

TEST(Checkpoint, AStepWrittenAgainReplacesTheOldOne) {
  const TemporaryFolder folder;
  Write(folder, 5);
  fs::resize_file(StepFolder(folder, 5) / "state.safetensors", 10);
  Write(folder, 5);
  EXPECT_EQ(folder.Names(), Names{"step-000000000005"});
  State state(SomeTensors());
  ASSERT_TRUE(LoadNewest(folder, state));
  EXPECT_TRUE(SameBits(state, StateAt(5)));
}

TEST(CheckpointFolder, ReplacesAlsoWhereNamesCannotBeExchanged) {
  const TemporaryFolder folder;
  fs::create_directory(StepFolder(folder, 5));
  Overwrite(StepFolder(folder, 5) / "old", "");
  {
    auto created = NewFolder::Create(folder.path(), 5);
    ASSERT_TRUE(created) << created.error().ToString();
    Overwrite(created->path() / "new", "");
    ASSERT_TRUE(created->Publish(false));
  }
  EXPECT_EQ(folder.Names(), Names{"step-000000000005"});
  EXPECT_TRUE(fs::exists(StepFolder(folder, 5) / "new"));
  EXPECT_FALSE(fs::exists(StepFolder(folder, 5) / "old"));
}

TEST(CheckpointFolder, IsGoneUnlessPublished) {
  const TemporaryFolder folder;
  {
    const auto created = NewFolder::Create(folder.path(), 5);
    ASSERT_TRUE(created);
    Overwrite(created->path() / "file", "content");
    EXPECT_EQ(folder.Names().size(), 1u);
    EXPECT_TRUE(ListCheckpoints(folder.path()).empty());
  }
  EXPECT_TRUE(folder.Names().empty());
}

TEST(CheckpointFolder, ACheckpointSetAsideByADeadWriterIsFoundAndGetsItsNameBack) {
  const TemporaryFolder folder;
  Write(folder, 5);
  fs::rename(StepFolder(folder, 5), folder.path() / ".step-000000000005.old-77");
  State state(SomeTensors());
  const auto loaded = LoadNewest(folder, state);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
  EXPECT_EQ(loaded->entry.step, 5u);
  Write(folder, 6);
  EXPECT_EQ(folder.Names(), (Names{"step-000000000005", "step-000000000006"}));
}

TEST(Checkpoint, RemovesWhatDeadWritersLeftButNothingThatIsBeingWritten) {
  const TemporaryFolder folder;
  Write(folder, 1);
  fs::create_directories(folder.path() / ".step-000000000002.tmp-1" / "deep");
  fs::create_directory(folder.path() / ".step-000000000001.old-1");
  const auto being_written = NewFolder::Create(folder.path(), 3);
  ASSERT_TRUE(being_written);
  Write(folder, 4);
  EXPECT_EQ(folder.Names(), (Names{being_written->path().filename().string(), "step-000000000001",
                                   "step-000000000004"}));
}

TEST(Checkpoint, TwoWritersOfOneStepDoNotMeet) {
  const TemporaryFolder folder;
  const auto other = NewFolder::Create(folder.path(), 4);
  ASSERT_TRUE(other);
  const Status status = WriteCheckpoint(folder.path(), StateAt(4), SomeFacts());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kUnavailable);
}

TEST(Checkpoint, RefusesAStateThatIsBetweenTwoSteps) {
  const TemporaryFolder folder;
  State state = StateAt(4);
  state.set_page_version(0, 3);
  const Status status = WriteCheckpoint(folder.path(), state, SomeFacts());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(status.error().message, "page 0 is at position 3, but the state at 6");
  EXPECT_TRUE(folder.Names().empty());
}

TEST(Checkpoint, OfOtherFactsIsNeverSkippedOver) {
  const TemporaryFolder folder;
  Write(folder, 1);
  CheckpointFacts other = SomeFacts();
  other.micro_batches = 64;
  ASSERT_TRUE(WriteCheckpoint(folder.path(), StateAt(2), other));
  State state = StateAt(99);
  const auto loaded = LoadNewest(folder, state);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kFailedPrecondition);
  EXPECT_NE(
      loaded.error().message.find("it was written with micro_batches = 64, but this run has 16"),
      std::string::npos);
  EXPECT_NE(loaded.error().message.find("step-000000000002"), std::string::npos);
  EXPECT_TRUE(SameBits(state, StateAt(99)));
}

TEST(Checkpoint, OfAnotherModelIsRefusedWithTheFirstDifference) {
  const TemporaryFolder folder;
  Write(folder, 1);
  std::vector<TensorSpec> tensors = SomeTensors();
  tensors[0].shape = {7, 5};
  State state(tensors);
  const auto loaded = LoadNewest(folder, state);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kFailedPrecondition);
  EXPECT_NE(loaded.error().message.find("it holds another model: tensor \"parameter/fc.weight\" is "
                                        "F32[5,7], but F32[7,5] is expected"),
            std::string::npos)
      << loaded.error().message;
}

TEST(Checkpoint, NothingThereIsNotFound) {
  const TemporaryFolder folder;
  State state(SomeTensors());
  for (const fs::path& directory : {folder.path(), folder.path() / "missing"}) {
    const auto loaded = LoadNewestCheckpoint(directory, SomeFacts(), state);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, Code::kNotFound);
    EXPECT_NE(loaded.error().message.find(directory.string()), std::string::npos);
  }
  EXPECT_EQ(LoadCheckpoint(StepFolder(folder, 1), SomeFacts(), state).error().code,
            Code::kNotFound);
}

TEST(Checkpoint, HoldsAHundredThousandTensors) {
  const TemporaryFolder folder;
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 100000; ++i) {
    tensors.push_back({fmt::format("parameter/layer.{:06}.weight", i), "F32", {2, 1}});
  }
  const State written = StateAt(3, tensors);
  const Status status = WriteCheckpoint(folder.path(), written, SomeFacts());
  ASSERT_TRUE(status) << status.error().ToString();
  State state(tensors);
  const auto loaded = LoadNewest(folder, state);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
  EXPECT_TRUE(SameBits(state, written));
}

TEST(Checkpoint, MoreTensorsThanAHeaderHoldsAreRefusedAndLeaveNothing) {
  const TemporaryFolder folder;
  const State state = StateAt(1, {{std::string(17 << 20, 'x'), "F32", {1}}});
  const Status status = WriteCheckpoint(folder.path(), state, SomeFacts());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kOutOfRange);
  EXPECT_TRUE(folder.Names().empty());
}

}  // namespace
}  // namespace muster
