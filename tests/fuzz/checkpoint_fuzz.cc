// Checkpoint: a folder that somebody else may have written: the text of a manifest, the head of a safetensors file, or both files of
// a checkpoint, whose hashes are put right again so that what lies behind them is read.
//
// Beside the general promises: what is accepted is written again as something that reads as the same; the tensors of a header tile
// its file; a checkpoint whose parts fit is loaded to the bytes of its file; one that is refused leaves the state as it was, and
// the error names the file.
#include <algorithm>
#include <array>
#include <bit>
#include <fstream>

#include "runtime/base/hash.h"
#include "runtime/state/checkpoint.h"
#include "runtime/state/manifest.h"
#include "runtime/state/safetensors.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

namespace fs = std::filesystem;

enum class Mode : uint8_t { kManifest, kSealedManifest, kHeader, kCheckpoint, kCount };

constexpr std::string_view kHashKey = ",\n  \"manifest_xxh3_128\": \"";
constexpr std::string_view kTail = "\"\n}\n";
constexpr uint64_t kStep = 7;

std::string HashOf(std::string_view text) {
  return HashBytes(std::as_bytes(std::span(text))).ToHex();
}

// `text` with the hash that makes it a manifest of this format.
std::string Sealed(std::string_view text) {
  return fmt::format("{}{}{}{}", text, kHashKey, HashOf(text), kTail);
}

std::string WithoutSeal(const std::string& manifest) {
  return manifest.substr(0, manifest.rfind(kHashKey));
}

CheckpointFacts Facts() { return {3, 16, 8, 1797, "exact", "sgd rate=\"0.1\""}; }

std::vector<TensorSpec> Tensors() {
  return {{"w", "F32", {2, 3}},
          {"exact/exponents", "I16", {3}},
          {"empty", "F32", {0}},
          {"n", "I64", {}}};
}

// Its bytes are the same at every step but for the counters.
State SomeState() {
  State state(Tensors());
  for (size_t i = 0; i < state.tensors().size(); ++i) {
    for (size_t j = 0; j < state.tensor_bytes(i).size(); ++j) {
      state.tensor_bytes(i)[j] = static_cast<std::byte>(16 * i + j);
    }
  }
  state.header() = {.step = kStep, .samples_consumed = 896, .misses = 2, .loss = 0.25};
  state.set_all_page_versions(state.position());
  return state;
}

void CheckManifest(std::string_view text) {
  const auto manifest = ParseManifest(text);
  if (!manifest) return CheckError(manifest.error());
  const auto written = EncodeManifest(*manifest);
  MUSTER_CHECK(written.has_value(), "{}", written.error().message);
  const auto again = ParseManifest(*written);
  MUSTER_CHECK(again.has_value(), "{}", again.error().message);
  MUSTER_CHECK(again->tensors == manifest->tensors && again->hashes == manifest->hashes);
  MUSTER_CHECK(CompareFacts(manifest->facts, again->facts).has_value());
  const auto bytes_of = [](const StateHeader& counters) {
    return std::bit_cast<std::array<std::byte, sizeof(StateHeader)>>(
        counters);  // a loss may be NaN
  };
  MUSTER_CHECK(bytes_of(again->counters) == bytes_of(manifest->counters));
  MUSTER_CHECK(EncodeManifest(*again) == *written);
}

// The tensors of a file that begins like this, if it is one.
Result<std::vector<PlacedTensor>> ParseHead(std::string_view file) {
  std::byte length_bytes[kSafetensorsLengthBytes] = {};
  std::memcpy(length_bytes, file.data(), std::min(file.size(), sizeof length_bytes));
  MUSTER_ASSIGN(const uint64_t length, ParseSafetensorsLength(length_bytes, file.size()));
  return ParseSafetensorsHeader(file.substr(kSafetensorsLengthBytes, length), file.size());
}

void CheckHeader(std::string_view file) {
  const auto placed = ParseHead(file);
  if (!placed) return CheckError(placed.error());
  std::vector<TensorSpec> specs;
  uint64_t end = placed->empty() ? file.size() : placed->front().begin;
  for (const PlacedTensor& tensor : *placed) {
    MUSTER_CHECK(tensor.begin == end && tensor.end - tensor.begin == tensor.spec.bytes(),
                 "{} lies at {} to {}, behind {}", tensor.spec.name, tensor.begin, tensor.end, end);
    end = tensor.end;
    specs.push_back(tensor.spec);
  }
  MUSTER_CHECK(end == file.size(), "the tensors end at {} of {}", end, file.size());
  const auto head = EncodeSafetensorsHead(specs);
  MUSTER_CHECK(head.has_value(), "{}", head.error().message);
  size_t bytes = head->size();
  for (const TensorSpec& spec : specs) bytes += spec.bytes();
  std::string rewritten = *head;
  rewritten.resize(bytes);
  const auto again = ParseHead(rewritten);
  MUSTER_CHECK(again.has_value(), "{}", again.error().message);
  MUSTER_CHECK(!FirstDifference(specs, [&] {
    std::vector<TensorSpec> found;
    for (const PlacedTensor& tensor : *again) found.push_back(tensor.spec);
    return found;
  }()));
}

void WriteFile(const fs::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// `manifest_text` as it is, but for what it says of the bytes of `file` and of its tensors: that is right.
std::string Corrected(const std::string& manifest_text, std::string_view file) {
  auto manifest = ParseManifest(Sealed(manifest_text));
  if (!manifest) return Sealed(manifest_text);
  manifest->file_bytes = file.size();
  manifest->file_hash = HashOf(file);
  if (const auto placed = ParseHead(file)) {
    for (const PlacedTensor& tensor : *placed) {
      for (size_t i = 0; i < manifest->tensors.size(); ++i) {
        if (manifest->tensors[i].name != tensor.spec.name) continue;
        manifest->hashes[i] = HashOf(file.substr(tensor.begin, tensor.end - tensor.begin));
      }
    }
  }
  return EncodeManifest(*manifest).value();
}

// Whether all of it fits, in other words than those of the loader.
bool Fits(const std::string& manifest_text, std::string_view file) {
  const auto manifest = ParseManifest(manifest_text);
  const auto placed = ParseHead(file);
  if (!manifest || !placed || !CompareFacts(Facts(), manifest->facts)) return false;
  std::vector<TensorSpec> specs;
  for (const PlacedTensor& tensor : *placed) specs.push_back(tensor.spec);
  const auto by_name = [](const TensorSpec& a, const TensorSpec& b) { return a.name < b.name; };
  std::vector<TensorSpec> listed = manifest->tensors;
  std::vector<TensorSpec> wanted = Tensors();
  for (auto* list : {&specs, &listed, &wanted}) std::ranges::sort(*list, by_name);
  return specs == wanted && listed == wanted && manifest->counters.step == kStep;
}

void CheckCheckpoint(Script& script) {
  const std::string manifest_text(script.Bytes());
  const std::string_view file = script.Rest();
  const std::string manifest = Corrected(manifest_text, file);
  static const fs::path folder = ScratchFolder() / fmt::format("step-{:012}", kStep);
  fs::create_directories(folder);
  WriteFile(folder / "manifest.json", manifest);
  WriteFile(folder / "state.safetensors", file);
  State state(Tensors());
  const Status loaded = LoadCheckpoint(folder, Facts(), state);
  MUSTER_CHECK(loaded.has_value() == Fits(manifest, file), "{}",
               loaded ? "it is loaded, but should not" : loaded.error().message);
  if (!loaded) {
    CheckError(loaded.error());
    MUSTER_CHECK(loaded.error().message.find(folder.string()) == 0, "{}", loaded.error().message);
    MUSTER_CHECK(std::ranges::equal(state.image(), State(Tensors()).image()), "it was touched");
    return;
  }
  const auto placed = ParseHead(file).value();
  for (const PlacedTensor& tensor : placed) {
    const auto at = std::ranges::find(state.tensors(), tensor.spec);
    const auto bytes = state.tensor_bytes(static_cast<size_t>(at - state.tensors().begin()));
    MUSTER_CHECK(std::ranges::equal(
        bytes, std::as_bytes(std::span(file.substr(tensor.begin, tensor.end - tensor.begin)))));
  }
}

ScriptWriter Begin(Mode mode) { return std::move(ScriptWriter().Number(uint8_t(mode))); }

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<Seed> Seeds() {
  const fs::path folder = ScratchFolder() / "seeds";
  const Status written = WriteCheckpoint(folder, SomeState(), Facts());
  MUSTER_CHECK(written.has_value(), "{}", written.error().message);
  const fs::path step = ListCheckpoints(folder).at(0).folder;
  const std::string manifest = ReadAll(step / "manifest.json");
  const std::string file = ReadAll(step / "state.safetensors");
  const auto begins_with = [](const std::string& json) {
    return std::string(1, static_cast<char>(json.size())) + std::string(7, 0) + json;
  };
  const std::string with_metadata =
      R"({"__metadata__":{"made":"by hand"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  const std::string overlapping = R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                                  R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  return {
      {"manifest", Begin(Mode::kManifest).Rest(manifest).bytes()},
      {"manifest-without-hash", Begin(Mode::kSealedManifest).Rest(WithoutSeal(manifest)).bytes()},
      {"safetensors", Begin(Mode::kHeader).Rest(file).bytes()},
      {"safetensors-metadata",
       Begin(Mode::kHeader).Rest(begins_with(with_metadata) + "8 bytes.").bytes()},
      {"safetensors-overlapping",
       Begin(Mode::kHeader).Rest(begins_with(overlapping) + "twelve bytes").bytes()},
      {"checkpoint", Begin(Mode::kCheckpoint).Bytes(WithoutSeal(manifest)).Rest(file).bytes()}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster::fuzz;
  Script script({reinterpret_cast<const char*>(data), size});
  switch (static_cast<Mode>(script.Number<uint8_t>() % uint8_t(Mode::kCount))) {
    case Mode::kManifest:
      CheckManifest(script.Rest());
      break;
    case Mode::kSealedManifest:
      CheckManifest(Sealed(script.Rest()));
      break;
    case Mode::kHeader:
      CheckHeader(script.Rest());
      break;
    default:
      CheckCheckpoint(script);
  }
  return 0;
}
