#include "launcher/bundle/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kOne = Sha256("one");
const std::string kTwo = Sha256("two");

ManifestEntry File(const std::string& path, uint64_t size = 0,
                   std::vector<std::string> chunks = {}) {
  return {path, false, size, std::move(chunks)};
}

// Why entries are refused; "" if they are not.
std::string Refusal(std::vector<ManifestEntry> entries) {
  const auto made = Manifest::Create(std::move(entries));
  if (made) return "";
  EXPECT_EQ(made.error().code, Code::kInvalidArgument);
  return made.error().message;
}

TEST(Manifest, ReadsWhatItHasWritten) {
  const auto made = Manifest::Create(
      {File("z/data.bin", kMaxChunkBytes + 1, {kOne, kTwo}), {"bin/train", true, 3, {kOne}}});
  ASSERT_TRUE(made);
  const auto read = Manifest::Parse(made->text());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->entries(), made->entries());
  EXPECT_EQ(read->entries()[0].path, "bin/train");
  EXPECT_EQ(read->hash(), Sha256(made->text()));
  EXPECT_EQ(read->bytes(), kMaxChunkBytes + 4);
  EXPECT_THAT(read->Chunks(), ElementsAre(kOne, kTwo));
}

TEST(Manifest, HasOneNameWhateverTheOrderWas) {
  const auto one = Manifest::Create({File("a"), File("b")});
  const auto other = Manifest::Create({File("b"), File("a")});
  EXPECT_EQ(one->hash(), other->hash());
  EXPECT_NE(one->hash(), Manifest::Create({File("a")})->hash());
}

TEST(Manifest, RefusesPathsThatLeadElsewhere) {
  EXPECT_THAT(Refusal({File("/etc/passwd")}), HasSubstr("it must be relative"));
  for (const char* path : {"..", "../x", "a/../x", "a/.."}) {
    EXPECT_THAT(Refusal({File(path)}), HasSubstr("leads out")) << path;
  }
  for (const char* path : {"a//b", "./a", "a/.", "a/"}) {
    EXPECT_THAT(Refusal({File(path)}), HasSubstr("is empty")) << path;
  }
  EXPECT_THAT(Refusal({File("")}), HasSubstr("length"));
  EXPECT_THAT(Refusal({File(std::string(256, 'x'))}), HasSubstr("too long"));
  EXPECT_THAT(Refusal({File("a\nb")}), HasSubstr("readable"));
  EXPECT_THAT(Refusal({File("\xff")}), HasSubstr("readable"));
  EXPECT_THAT(Refusal({File(".muster/secret")}), HasSubstr("Muster's own"));
  EXPECT_EQ(Refusal({File("a/.muster/..x")}), "");
}

TEST(Manifest, RefusesTwoFilesInOnePlace) {
  EXPECT_THAT(Refusal({File("a"), File("b"), File("a")}), HasSubstr("two files"));
  // With another one in between in the order of their names.
  EXPECT_THAT(Refusal({File("a"), File("a-b"), File("a/b/c")}), HasSubstr("a folder of others"));
}

TEST(Manifest, RefusesWhatIsTooMuch) {
  EXPECT_THAT(Refusal(std::vector<ManifestEntry>(kMaxBundleFiles + 1, File("a"))),
              HasSubstr("4097 files"));
  const uint64_t half = kMaxBundleBytes / 2;
  const std::vector<std::string> chunks(half / kMaxChunkBytes, kOne);
  EXPECT_EQ(Refusal({File("a", half, chunks), File("b", half, chunks)}), "");
  EXPECT_THAT(Refusal({File("a", half, chunks), File("b", half, chunks), File("c", 1, {kOne})}),
              HasSubstr("with c there are more than 1.0 GiB"));
  EXPECT_THAT(Refusal({File("a", kMaxBundleBytes + 1)}), HasSubstr("a has 1.0 GiB"));
}

TEST(Manifest, RefusesChunksThatDoNotMakeTheFile) {
  EXPECT_THAT(Refusal({File("a", 1)}), HasSubstr("by its chunks"));
  EXPECT_THAT(Refusal({File("a", 1, {kOne, kTwo})}), HasSubstr("by its chunks"));
  EXPECT_THAT(Refusal({File("a", 1, {"../../etc/passwd"})}), HasSubstr("by its chunks"));
}

TEST(Manifest, RefusesATextThatIsNotItsOwn) {
  const std::string text = Manifest::Create({File("a", 1, {kOne})})->text();
  EXPECT_EQ(Manifest::Parse(text + " ").error().code, Code::kDataLoss);
  EXPECT_EQ(Manifest::Parse("{}").error().code, Code::kDataLoss);
  EXPECT_EQ(Manifest::Parse("{\"files\":[{\"path\":7}]}").error().code, Code::kDataLoss);
  EXPECT_EQ(Manifest::Parse("").error().code, Code::kDataLoss);
}

TEST(Chunk, IsWhatItWasAfterItsJourney) {
  for (const std::string& raw :
       {std::string(), std::string("x"), std::string(kMaxChunkBytes, 'y')}) {
    const std::string compressed = CompressChunk(raw);
    EXPECT_LE(compressed.size(), kMaxCompressedBytes);
    EXPECT_EQ(DecompressChunk(Sha256(raw), compressed), raw);
  }
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Chunk, IsRefusedWhenItIsDamagedOrTooLarge) {
  const std::string good = CompressChunk("some bytes of a program");
  const std::string hash = Sha256("some bytes of a program");
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    const auto read = DecompressChunk(hash, bad);
    // A bit of the frame that says nothing about the bytes may differ.
    EXPECT_TRUE(read ? *read == "some bytes of a program" : read.error().code == Code::kDataLoss);
    EXPECT_FALSE(DecompressChunk(hash, good.substr(0, i))) << i;
  }
  EXPECT_EQ(DecompressChunk(Sha256("other"), good).error().code, Code::kDataLoss);
  EXPECT_FALSE(DecompressChunk(hash, std::string(kMaxCompressedBytes + 1, 'x')));
}

TEST(BytesText, IsShort) {
  EXPECT_EQ(BytesText(5), "5 bytes");
  EXPECT_EQ(BytesText(812 << 10), "812 KiB");
  EXPECT_EQ(BytesText(3'250'586), "3.1 MiB");
  EXPECT_EQ(BytesText(kMaxBundleBytes), "1.0 GiB");
}

}  // namespace
}  // namespace muster
