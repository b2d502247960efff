#include "runtime/state/manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/bytes.h"
#include "runtime/state/checkpoint_test_util.h"

namespace muster {
namespace {

Manifest SomeManifest() {
  Manifest manifest;
  manifest.facts = SomeFacts();
  manifest.counters = StateAt(120).header();
  manifest.tensors = SomeTensors();
  manifest.hashes.assign(manifest.tensors.size(), std::string(32, 'a'));
  manifest.file_bytes = 4711;
  manifest.file_hash = std::string(32, 'b');
  return manifest;
}

std::string Encoded(const Manifest& manifest = SomeManifest()) {
  const auto text = EncodeManifest(manifest);
  EXPECT_TRUE(text) << text.error().ToString();
  return text.value_or("");
}

// `text` with another body and the hash that fits it: not damaged by chance, but made so.
std::string Forged(const std::string& body) {
  const std::string hash = HashBytes(std::as_bytes(std::span(body))).ToHex();
  return body + ",\n  \"manifest_xxh3_128\": \"" + hash + "\"\n}\n";
}

Code CodeOf(const std::string& text) {
  const auto manifest = ParseManifest(text);
  return manifest ? Code{} : manifest.error().code;
}

TEST(Manifest, ReadsBackWhatItWrote) {
  const auto manifest = ParseManifest(Encoded());
  ASSERT_TRUE(manifest) << manifest.error().ToString();
  const Manifest expected = SomeManifest();
  EXPECT_TRUE(CompareFacts(expected.facts, manifest->facts));
  EXPECT_TRUE(std::ranges::equal(BytesOf(manifest->counters), BytesOf(expected.counters)));
  EXPECT_EQ(manifest->tensors, expected.tensors);
  EXPECT_EQ(manifest->hashes, expected.hashes);
  EXPECT_EQ(manifest->file_bytes, 4711u);
  EXPECT_EQ(manifest->file_hash, expected.file_hash);
}

TEST(Manifest, KeepsTheBitsOfALossThatIsNotANumber) {
  Manifest manifest = SomeManifest();
  manifest.counters.loss = -std::nan("123");
  const auto read = ParseManifest(Encoded(manifest));
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(std::ranges::equal(BytesOf(read->counters), BytesOf(manifest.counters)));
}

TEST(Manifest, RefusesEveryChangedByteAndEveryTruncation) {
  const std::string text = Encoded();
  for (size_t i = 0; i < text.size(); ++i) {
    for (const int mask : {1, 0x20, 0x80, 0xff}) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ mask);
      ASSERT_EQ(CodeOf(damaged), Code::kDataLoss) << "byte " << i << " mask " << mask;
    }
    ASSERT_EQ(CodeOf(text.substr(0, i)), Code::kDataLoss) << i << " bytes";
    ASSERT_EQ(CodeOf(text.substr(i + 1)), Code::kDataLoss) << "without the first " << i;
  }
  EXPECT_EQ(CodeOf(text + "\n"), Code::kDataLoss);
}

TEST(Manifest, RefusesForgeriesThatAreNoManifest) {
  EXPECT_EQ(CodeOf(Forged("")), Code::kDataLoss);
  EXPECT_EQ(CodeOf(Forged("{")), Code::kDataLoss);
  EXPECT_EQ(CodeOf(Forged("{\n  \"format_version\": \"1\"")), Code::kDataLoss);
  EXPECT_EQ(CodeOf(Forged("{\n  \"format_version\": 1")), Code::kDataLoss);
  EXPECT_EQ(CodeOf(Forged("{\"x\":" + std::string(1 << 20, '['))), Code::kDataLoss);
  const std::string text = Encoded();
  const std::string body = text.substr(0, text.rfind(",\n  \"manifest_xxh3_128\""));
  ASSERT_EQ(CodeOf(Forged(body)), Code{});
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"\"bytes\":4711", "\"bytes\":-4711"},
                                                        {"\"bytes\":4711", "\"bytes\":4711.5"},
                                                        {"\"bytes\":4711", "\"bytes\":\"4711\""},
                                                        {"\"step\":120", "\"step\":null"},
                                                        {"\"shape\":[5,7]", "\"shape\":[5,[7]]"},
                                                        {"\"shape\":[5,7]", "\"shape\":5"},
                                                        {"\"reserved\":[0,", "\"reserved\":["},
                                                        {"\"seed\":", "\"sead\":"}}) {
    std::string forged = body;
    ASSERT_NE(forged.find(from), std::string::npos) << from;
    forged.replace(forged.find(from), from.size(), to);
    EXPECT_EQ(CodeOf(Forged(forged)), Code::kDataLoss) << to;
  }
}

TEST(Manifest, AnotherFormatVersionIsNotDamage) {
  const auto manifest = ParseManifest(Forged("{\n  \"format_version\": 2"));
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(manifest.error().message, "it has format version 2, but this program reads version 1");
}

TEST(Manifest, NamesTheFirstFactThatDiffersAndBothValues) {
  const CheckpointFacts facts = SomeFacts();
  const auto message = [&](auto change) {
    CheckpointFacts other = facts;
    change(other);
    const Status status = CompareFacts(facts, other);
    EXPECT_FALSE(status);
    return status ? "" : status.error().message;
  };
  EXPECT_TRUE(CompareFacts(facts, facts));
  EXPECT_EQ(message([](CheckpointFacts& f) {
              f.seed = 2;
              f.reduce = "float";
            }),
            "it was written with seed = 2, but this run has 18364758544493064720");
  EXPECT_EQ(message([](CheckpointFacts& f) { f.micro_batches = 8; }),
            "it was written with micro_batches = 8, but this run has 16");
  EXPECT_EQ(message([](CheckpointFacts& f) { f.batch_size = 9; }),
            "it was written with batch_size = 9, but this run has 8");
  EXPECT_EQ(message([](CheckpointFacts& f) { f.dataset_size = 1; }),
            "it was written with dataset_size = 1, but this run has 1797");
  EXPECT_EQ(message([](CheckpointFacts& f) { f.reduce = "float"; }),
            "it was written with reduce = float, but this run has exact");
  EXPECT_EQ(message([](CheckpointFacts& f) { f.optimizer = "sgd"; }),
            "it was written with optimizer = sgd, but this run has adamw beta1=0.9 \"quoted\"");
}

TEST(Manifest, FactsThatAreNotTextAreRefused) {
  Manifest manifest = SomeManifest();
  manifest.facts.optimizer = "\xff";
  const auto text = EncodeManifest(manifest);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace muster
