#include "launcher/bundle/chunk_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "launcher/bundle/testing/bundle_folder.h"

namespace muster {
namespace {

class ChunkStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { store_ = std::move(ChunkStore::Open(folder_.root() / "chunks").value()); }

  void PutAll(const LocalBundle& bundle) {
    ASSERT_TRUE(store_->Put(bundle.hash(), *bundle.Compressed(bundle.hash())));
    for (const std::string& chunk : bundle.manifest().Chunks()) {
      ASSERT_TRUE(store_->Put(chunk, *bundle.Compressed(chunk)));
    }
  }

  BundleFolder folder_;
  std::unique_ptr<ChunkStore> store_;
};

TEST_F(ChunkStoreTest, KeepsWhatItWasGiven) {
  const std::string hash = Sha256("bytes");
  EXPECT_FALSE(store_->Has(hash));
  EXPECT_EQ(store_->Get(hash).error().code, Code::kNotFound);
  ASSERT_TRUE(store_->Put(hash, CompressChunk("bytes")));
  EXPECT_TRUE(store_->Has(hash));
  EXPECT_EQ(store_->Get(hash), CompressChunk("bytes"));
  EXPECT_EQ(store_->Read(hash), "bytes");
}

TEST_F(ChunkStoreTest, TakesNothingThatIsNotWhatItsHashSays) {
  const std::string hash = Sha256("bytes");
  EXPECT_EQ(store_->Put(hash, CompressChunk("others")).error().code, Code::kDataLoss);
  EXPECT_EQ(store_->Put(hash, "bytes").error().code, Code::kDataLoss);
  EXPECT_FALSE(store_->Has(hash));
  EXPECT_FALSE(store_->Put("../outside", CompressChunk("bytes")));
  EXPECT_FALSE(store_->Has("../chunks"));
}

TEST_F(ChunkStoreTest, NoticesAChunkThatWasDamagedOnItsDisk) {
  const std::string hash = Sha256("bytes");
  ASSERT_TRUE(store_->Put(hash, CompressChunk("bytes")));
  folder_.Write("chunks/" + hash, CompressChunk("bites"));
  EXPECT_EQ(store_->Read(hash).error().code, Code::kDataLoss);
}

TEST_F(ChunkStoreTest, UnpacksAWholeBundle) {
  const LocalBundle bundle = folder_.Make();
  PutAll(bundle);
  const auto manifest = store_->ReadManifest(bundle.hash());
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_TRUE(store_->Missing(*manifest).empty());
  const auto out = folder_.root() / "out";
  ASSERT_TRUE(Unpack(*manifest, *store_, out));
  EXPECT_EQ(ReadFile(out / "bin/train").value(), ReadFile(folder_.root() / "train").value());
  EXPECT_EQ(ReadFile(out / "data/deep/b.bin"), "two");
  struct stat about = {};
  ASSERT_EQ(::stat((out / "bin/train").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0755U);
  ASSERT_EQ(::stat((out / "data/a.bin").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0644U);
}

TEST_F(ChunkStoreTest, LeavesNoFileWithItsNameThatIsNotWhole) {
  const LocalBundle bundle = folder_.Make();
  PutAll(bundle);
  std::filesystem::remove(folder_.root() / "chunks" / bundle.manifest().entries()[0].chunks[1]);
  const auto out = folder_.root() / "out";
  EXPECT_EQ(Unpack(bundle.manifest(), *store_, out).error().code, Code::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(out / "bin/train"));
}

TEST_F(ChunkStoreTest, BearsManyThreads) {
  const std::string raw(100'000, 'x');
  const std::string hash = Sha256(raw);
  const std::string compressed = CompressChunk(raw);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < 20; ++k) {
          EXPECT_TRUE(store_->Put(hash, compressed));
          EXPECT_EQ(store_->Read(hash), raw);
        }
      });
    }
  }
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.root() / "chunks")) {
    EXPECT_EQ(entry.path().filename(), hash);
    ++files;
  }
  EXPECT_EQ(files, 1U);
}

}  // namespace
}  // namespace muster
