// Bundle: what comes to a machine of a job's files: the list of them, and chunks. The input is either.
//
// Beside the general promises: a list that is accepted is canonical, is read again as the same, and names no file outside of its
// folder; a chunk is accepted for the hash of its bytes only, and has at most the size that a chunk may have.
#include <filesystem>

#include "launcher/bundle/chunk.h"
#include "launcher/bundle/manifest.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

void CheckList(std::string_view text) {
  const auto manifest = Manifest::Parse(text);
  if (!manifest) return CheckError(manifest.error());
  MUSTER_CHECK(manifest->text() == text);
  const auto again = Manifest::Create(manifest->entries());
  MUSTER_CHECK(again.has_value() && again->hash() == manifest->hash());
  MUSTER_CHECK(manifest->bytes() <= kMaxBundleBytes);
  const std::filesystem::path folder = "/bundle";
  for (const ManifestEntry& entry : manifest->entries()) {
    const std::string place = (folder / entry.path).lexically_normal();
    MUSTER_CHECK(place.starts_with("/bundle/") && place.size() == 8 + entry.path.size(), "{}",
                 place);
  }
}

void CheckChunk(std::string_view compressed) {
  const std::string wrong = Sha256("what nobody sends");
  const auto refused = DecompressChunk(wrong, compressed);
  MUSTER_CHECK(!refused.has_value(), "other bytes than those of the hash");
  CheckError(refused.error());
  // Bytes that do fit their hash come back.
  const std::string_view raw = compressed.substr(0, kMaxChunkBytes);
  const auto back = DecompressChunk(Sha256(raw), CompressChunk(raw));
  MUSTER_CHECK(back.has_value() && *back == raw);
}

// A list that nobody would make: of files with these paths.
std::string ListOf(const std::vector<std::string>& paths) {
  std::vector<ManifestEntry> entries;
  std::string text;
  for (size_t i = 0; i < paths.size(); ++i) {
    entries.push_back({fmt::format("path-{}", i), false, 1, {Sha256("a")}});
    text = Manifest::Create(entries).value().text();
  }
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string name = fmt::format("path-{}", i);
    text.replace(text.find(name), name.size(), paths[i]);
  }
  return text;
}

}  // namespace

std::vector<Seed> Seeds() {
  const auto manifest =
      Manifest::Create(
          {{"train", true, 5, {Sha256("train")}},
           {"data/empty", false, 0, {}},
           {"data/\xC3\xA9.bin", false, kMaxChunkBytes + 1, {Sha256("one"), Sha256("two")}}})
          .value();
  return {{"manifest.json", manifest.text()},
          {"one-file.json", Manifest::Create({{"a", false, 1, {Sha256("a")}}}).value().text()},
          {"outside.json", ListOf({"../x", "a/../../x"})},
          {"above.json", ListOf({"a/.."})},
          {"absolute.json", ListOf({"/etc/x"})},
          {"strange-parts.json", ListOf({"./a", "a//b", "c/"})},
          {"file-and-folder.json", ListOf({"a", "a/b"})},
          {"chunk", CompressChunk("some bytes some bytes some bytes")},
          {"empty-chunk", CompressChunk("")}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  muster::fuzz::CheckList(text);
  muster::fuzz::CheckChunk(text);
  return 0;
}
