#include "launcher/bundle/local_bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/bundle/testing/bundle_folder.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

Error Refusal(const std::vector<BundleSource>& sources) {
  const auto made = LocalBundle::Create(sources);
  return made ? Error{} : made.error();
}

TEST(LocalBundle, KnowsAllFilesOfAFolder) {
  const BundleFolder folder;
  const LocalBundle bundle = folder.Make();
  std::vector<std::string> paths;
  for (const ManifestEntry& entry : bundle.manifest().entries()) paths.push_back(entry.path);
  EXPECT_THAT(paths, ::testing::ElementsAre("bin/train", "data/a.bin", "data/deep/b.bin"));
  EXPECT_TRUE(bundle.manifest().entries()[0].executable);
  EXPECT_FALSE(bundle.manifest().entries()[1].executable);
  EXPECT_EQ(bundle.manifest().Chunks().size(), 5U);
}

TEST(LocalBundle, GivesEachChunkThatItNames) {
  const BundleFolder folder;
  const LocalBundle bundle = folder.Make();
  uint64_t bytes = 0;
  for (const std::string& chunk : bundle.manifest().Chunks()) {
    const auto raw = DecompressChunk(chunk, bundle.Compressed(chunk).value());
    ASSERT_TRUE(raw);
    EXPECT_EQ(raw->size(), bundle.SizeOf(chunk));
    bytes += raw->size();
  }
  EXPECT_EQ(bytes, bundle.manifest().bytes());
  EXPECT_EQ(DecompressChunk(bundle.hash(), bundle.Compressed(bundle.hash()).value()),
            bundle.manifest().text());
  EXPECT_EQ(bundle.Compressed(Sha256("other")).error().code, Code::kNotFound);
}

TEST(LocalBundle, NoticesAFileThatWasChangedMeanwhile) {
  const BundleFolder folder;
  const LocalBundle bundle = folder.Make();
  folder.Write("data/a.bin", "eno");
  const auto chunk = bundle.Compressed(Sha256("one"));
  ASSERT_FALSE(chunk);
  EXPECT_EQ(chunk.error().code, Code::kAborted);
  EXPECT_THAT(chunk.error().message, HasSubstr("a.bin has been changed"));
}

TEST(LocalBundle, NamesWhatItCannotSend) {
  const BundleFolder folder;
  EXPECT_THAT(Refusal({{folder.root() / "gone", "gone"}}).message, HasSubstr("gone is not there"));
  EXPECT_THAT(Refusal({{"/dev/null", "null"}}).message, HasSubstr("neither a file nor a folder"));
  folder.Write("data/a", "x");
  EXPECT_THAT(Refusal({{folder.root() / "data/a", "../a"}}).message, HasSubstr("leads out"));
  std::filesystem::create_directory_symlink("..", folder.root() / "data/up");
  EXPECT_THAT(Refusal({{folder.root() / "data", "data"}}).message, HasSubstr("data/up is neither"));
}

TEST(LocalBundle, TakesALinkForItsFile) {
  const BundleFolder folder;
  folder.Write("real", "content");
  std::filesystem::create_symlink("real", folder.root() / "link");
  const auto bundle = LocalBundle::Create({{folder.root() / "link", "link"}});
  ASSERT_TRUE(bundle);
  EXPECT_EQ(bundle->manifest().Chunks(), std::vector<std::string>{Sha256("content")});
}

}  // namespace
}  // namespace muster
