// Damaged checkpoints: whatever happens to the files, a checkpoint loads with the right bits or is refused, and the state that it
// would have been loaded into is untouched.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "runtime/state/checkpoint.h"
#include "runtime/state/checkpoint_test_util.h"
#include "runtime/state/manifest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

class CheckpointDamage : public testing::Test {
 protected:
  void SetUp() override {
    for (const uint64_t step : {10, 20}) {
      ASSERT_TRUE(WriteCheckpoint(folder_.path(), StateAt(step), SomeFacts()));
    }
  }

  fs::path newest() const { return StepFolder(folder_, 20); }
  fs::path state_file() const { return newest() / "state.safetensors"; }
  fs::path manifest_file() const { return newest() / "manifest.json"; }

  // Expects that the newest is refused and that the message holds the file and `reason`.
  void ExpectRefused(const fs::path& file, const std::string& reason) {
    State state = StateAt(99);
    const Status status = LoadCheckpoint(newest(), SomeFacts(), state);
    ASSERT_FALSE(status) << reason;
    EXPECT_EQ(status.error().code, Code::kDataLoss) << status.error().message;
    EXPECT_NE(status.error().message.find(file.string()), std::string::npos)
        << status.error().message;
    EXPECT_NE(status.error().message.find(reason), std::string::npos) << status.error().message;
    EXPECT_TRUE(SameBits(state, StateAt(99)));
  }

  // Gives the newest a manifest that fits the state file, as somebody who forges one would.
  void ForgeManifest() {
    auto manifest = ParseManifest(ReadAll(manifest_file()));
    ASSERT_TRUE(manifest);
    const std::string content = ReadAll(state_file());
    manifest->file_bytes = content.size();
    manifest->file_hash = HashBytes(std::as_bytes(std::span(content))).ToHex();
    Overwrite(manifest_file(), EncodeManifest(*manifest).value());
  }

  const TemporaryFolder folder_;
};

TEST_F(CheckpointDamage, EveryChangedByteOfEitherFileIsRefused) {
  State state = StateAt(99);
  for (const fs::path& path : {state_file(), manifest_file()}) {
    const size_t size = fs::file_size(path);
    for (size_t i = 0; i < size; ++i) {
      FlipBits(path, i, 1 << i % 8);
      const Status status = LoadCheckpoint(newest(), SomeFacts(), state);
      ASSERT_FALSE(status) << path << " byte " << i;
      ASSERT_EQ(status.error().code, Code::kDataLoss) << status.error().message;
      ASSERT_NE(status.error().message.find(path.string()), std::string::npos);
      FlipBits(path, i, 1 << i % 8);
    }
    EXPECT_TRUE(SameBits(state, StateAt(99)));
  }
  EXPECT_TRUE(LoadCheckpoint(newest(), SomeFacts(), state)) << "the undamaged one must load";
}

TEST_F(CheckpointDamage, EveryTruncationAndEveryExtensionIsRefused) {
  State state = StateAt(99);
  for (const fs::path& path : {state_file(), manifest_file()}) {
    const std::string content = ReadAll(path);
    for (size_t size = content.size() + 1; size-- > 0;) {
      fs::resize_file(path, size == content.size() ? size + 1 : size);
      const Status status = LoadCheckpoint(newest(), SomeFacts(), state);
      ASSERT_FALSE(status) << path << " of " << size << " bytes";
      ASSERT_EQ(status.error().code, Code::kDataLoss);
    }
    EXPECT_TRUE(SameBits(state, StateAt(99)));
    Overwrite(path, content);
  }
}

TEST_F(CheckpointDamage, AForgedManifestDoesNotHideADamagedStateFile) {
  const size_t size = fs::file_size(state_file());
  for (size_t i = 0; i < size; i += 3) {
    FlipBits(state_file(), i, 1 << i % 8);
    ForgeManifest();
    State state = StateAt(99);
    const Status status = LoadCheckpoint(newest(), SomeFacts(), state);
    // White space and the like may differ; the tensors may not.
    ASSERT_TRUE(SameBits(state, StateAt(status ? 20 : 99))) << i;
    FlipBits(state_file(), i, 1 << i % 8);
  }
}

TEST_F(CheckpointDamage, AForgedHeaderLengthIsRefused) {
  const std::string content = ReadAll(state_file());
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{content.size()},
                                uint64_t{1} << 24, uint64_t{1} << 63, UINT64_MAX}) {
    std::string damaged = content;
    std::memcpy(damaged.data(), &length, sizeof length);
    Overwrite(state_file(), damaged);
    ForgeManifest();
    ExpectRefused(state_file(), fmt::format("the header length is {}", length));
  }
}

TEST_F(CheckpointDamage, ATensorIsNamedWhoseBytesChanged) {
  std::string content = ReadAll(state_file());
  content.back() = static_cast<char>(content.back() ^ 1);
  Overwrite(state_file(), content);
  ExpectRefused(state_file(), "the hash of tensor \"exact/exponents\" is");
}

TEST_F(CheckpointDamage, SwappedStateFilesAreRefused) {
  fs::copy_file(StepFolder(folder_, 10) / "state.safetensors", state_file(),
                fs::copy_options::overwrite_existing);
  ExpectRefused(state_file(), "but the manifest says");
}

TEST_F(CheckpointDamage, ARenamedCheckpointIsRefused) {
  fs::rename(newest(), StepFolder(folder_, 30));
  State state = StateAt(99);
  const Status status = LoadCheckpoint(StepFolder(folder_, 30), SomeFacts(), state);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kDataLoss);
  EXPECT_NE(status.error().message.find("of step 20, but the folder is named after step 30"),
            std::string::npos);
}

TEST_F(CheckpointDamage, ACopyUnderAnyOtherNameLoads) {
  fs::copy(newest(), folder_.path() / "best");
  State state(SomeTensors());
  EXPECT_TRUE(LoadCheckpoint(folder_.path() / "best", SomeFacts(), state));
}

TEST_F(CheckpointDamage, MissingFilesAndOtherThingsInTheirPlaceAreRefused) {
  for (const fs::path& path : {state_file(), manifest_file()}) {
    const std::string content = ReadAll(path);
    fs::remove(path);
    ExpectRefused(path, "is missing");
    fs::create_directory(path);
    ExpectRefused(path, "is not a file");
    fs::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    ExpectRefused(path, "is not a file");
    fs::remove(path);
    Overwrite(path, content);
  }
  fs::remove(manifest_file());
  Overwrite(manifest_file(), "");
  fs::resize_file(manifest_file(), uint64_t{1} << 33);
  ExpectRefused(manifest_file(), "at most 67108864 are allowed");
}

TEST_F(CheckpointDamage, TheOneBeforeIsUsedAndTheReasonListed) {
  fs::resize_file(state_file(), 100);
  State state(SomeTensors());
  const auto loaded = LoadNewestCheckpoint(folder_.path(), SomeFacts(), state);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
  EXPECT_EQ(loaded->entry.step, 10u);
  EXPECT_TRUE(SameBits(state, StateAt(10)));
  ASSERT_EQ(loaded->refused.size(), 1u);
  EXPECT_NE(loaded->refused[0].find(state_file().string() + ": it has 100 bytes, but the manifest"),
            std::string::npos)
      << loaded->refused[0];
}

TEST_F(CheckpointDamage, AllDamagedIsDataLossThatNamesEachReason) {
  fs::resize_file(state_file(), 100);
  fs::remove(StepFolder(folder_, 10) / "manifest.json");
  State state = StateAt(99);
  const auto loaded = LoadNewestCheckpoint(folder_.path(), SomeFacts(), state);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kDataLoss);
  EXPECT_NE(loaded.error().message.find("all 2 checkpoints"), std::string::npos);
  EXPECT_NE(loaded.error().message.find("100 bytes"), std::string::npos);
  EXPECT_NE(loaded.error().message.find("is missing"), std::string::npos);
  EXPECT_TRUE(SameBits(state, StateAt(99)));
}

}  // namespace
}  // namespace muster
