#include "runtime/state/checkpoint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <system_error>
#include <unordered_map>

#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/state/checkpoint_file.h"
#include "runtime/state/checkpoint_folder.h"
#include "runtime/state/manifest.h"
#include "runtime/state/safetensors.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little,
              "tensors are written as they lie in memory, and the format is little-endian");

constexpr const char* kStateFile = "state.safetensors";
constexpr const char* kManifestFile = "manifest.json";
// Enough for the tensors that fit a safetensors header.
constexpr uint64_t kMaxManifestBytes = 64 << 20;

// `error`, told about `path`.
tl::unexpected<Error> About(const fs::path& path, Error error) {
  error.message = fmt::format("{}: {}", path.string(), error.message);
  return tl::unexpected<Error>(std::move(error));
}

// Indices of the tensors in the order of the file: wide elements first, so that each tensor is aligned to its elements.
std::vector<size_t> FileOrder(const std::vector<TensorSpec>& tensors) {
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, std::greater(),
                           [&](size_t i) { return ElementBytes(tensors[i].type); });
  return order;
}

// A state whose pages are at different steps is half of an update.
Status CheckAtOneStep(const State& state) {
  for (size_t i = 0; i < state.pages(); ++i) {
    if (state.page_version(i) != state.position()) {
      return Err(Code::kFailedPrecondition, "page {} is at position {}, but the state at {}", i,
                 state.page_version(i), state.position());
    }
  }
  return {};
}

Status CreateDirectory(const fs::path& directory) {
  std::error_code error;
  const bool created = fs::create_directories(directory, error);
  if (error) return StorageError(error.value(), "create", directory);
  const fs::path parent = directory.has_parent_path() ? directory.parent_path() : fs::path(".");
  return created ? SyncFolder(parent) : Status{};
}

Status WriteStateFile(const fs::path& path, const State& state, Manifest& manifest) {
  const std::vector<size_t> order = FileOrder(state.tensors());
  std::vector<TensorSpec> in_file_order;
  for (const size_t i : order) in_file_order.push_back(state.tensors()[i]);
  MUSTER_ASSIGN(const std::string head, EncodeSafetensorsHead(in_file_order));
  MUSTER_ASSIGN(NewFile file, NewFile::Create(path));
  MUSTER_TRY(file.Write(std::as_bytes(std::span(head))));
  MUSTER_TRY(Failpoint("checkpoint.write"));
  for (const size_t i : order) MUSTER_TRY(file.Write(state.tensor_bytes(i)));
  MUSTER_TRY(file.Finish());
  manifest.file_bytes = file.bytes();
  manifest.file_hash = file.hash();
  return {};
}

Status WriteManifestFile(const fs::path& path, const Manifest& manifest) {
  MUSTER_ASSIGN(const std::string text, EncodeManifest(manifest));
  MUSTER_ASSIGN(NewFile file, NewFile::Create(path));
  MUSTER_TRY(file.Write(std::as_bytes(std::span(text))));
  return file.Finish();
}

Result<Manifest> ReadManifestFile(const fs::path& path) {
  MUSTER_ASSIGN(OldFile file, OldFile::Open(path));
  if (file.bytes() > kMaxManifestBytes) {
    return Err(Code::kDataLoss, "{} has {} bytes, at most {} are allowed", path.string(),
               file.bytes(), kMaxManifestBytes);
  }
  std::string text(file.bytes(), '\0');
  MUSTER_TRY(file.Read(std::as_writable_bytes(std::span(text))));
  Result<Manifest> manifest = ParseManifest(text);
  if (!manifest) return About(path, manifest.error());
  return manifest;
}

// Whether a checkpoint with this manifest is one of this run, of the step that its folder is named after.
Status CheckManifest(const Manifest& manifest, const fs::path& folder, const CheckpointFacts& facts,
                     const State& state) {
  MUSTER_TRY(CompareFacts(facts, manifest.facts));
  if (const auto difference = FirstDifference(state.tensors(), manifest.tensors)) {
    return WithHint(Err(Code::kFailedPrecondition, "it holds another model: {}", *difference),
                    "run the program that wrote it, or checkpoint into another folder");
  }
  const auto name = ParseFolderName(folder.filename().string());
  if (name && name->step != manifest.counters.step) {
    return Err(Code::kDataLoss, "it is of step {}, but the folder is named after step {}",
               manifest.counters.step, name->step);
  }
  return {};
}

// Reads the head of the state file. The tensors are those of the manifest, or the file is damaged.
Result<std::vector<PlacedTensor>> ReadHead(OldFile& file, const Manifest& manifest) {
  if (file.bytes() != manifest.file_bytes) {
    return Err(Code::kDataLoss, "it has {} bytes, but the manifest says {}", file.bytes(),
               manifest.file_bytes);
  }
  std::byte length_bytes[kSafetensorsLengthBytes];
  MUSTER_TRY(file.Read(length_bytes));
  MUSTER_ASSIGN(const uint64_t length, ParseSafetensorsLength(length_bytes, file.bytes()));
  std::string json(length, '\0');
  MUSTER_TRY(file.Read(std::as_writable_bytes(std::span(json))));
  MUSTER_ASSIGN(std::vector<PlacedTensor> placed, ParseSafetensorsHeader(json, file.bytes()));
  std::vector<TensorSpec> specs;
  for (const PlacedTensor& tensor : placed) specs.push_back(tensor.spec);
  if (const auto difference = FirstDifference(manifest.tensors, specs)) {
    return Err(Code::kDataLoss, "{}, says the manifest", *difference);
  }
  return placed;
}

std::unordered_map<std::string, size_t> IndicesByName(const std::vector<TensorSpec>& tensors) {
  std::unordered_map<std::string, size_t> indices;
  for (size_t i = 0; i < tensors.size(); ++i) indices.emplace(tensors[i].name, i);
  return indices;
}

Status ReadTensors(OldFile& file, const Manifest& manifest, State& state) {
  MUSTER_ASSIGN(const std::vector<PlacedTensor> placed, ReadHead(file, manifest));
  const auto in_state = IndicesByName(state.tensors());
  const auto in_manifest = IndicesByName(manifest.tensors);
  for (const PlacedTensor& tensor : placed) {
    const std::span<std::byte> bytes = state.tensor_bytes(in_state.at(tensor.spec.name));
    MUSTER_TRY(file.Read(bytes));
    const std::string& expected = manifest.hashes[in_manifest.at(tensor.spec.name)];
    const std::string hash = HashBytes(bytes).ToHex();
    if (hash != expected) {
      return Err(Code::kDataLoss, "the hash of tensor \"{}\" is {}, but the manifest says {}",
                 tensor.spec.name, hash, expected);
    }
  }
  if (file.hash() != manifest.file_hash) {
    return Err(Code::kDataLoss, "its hash is {}, but the manifest says {}", file.hash(),
               manifest.file_hash);
  }
  return {};
}

Status NothingUsable(const fs::path& directory, const std::vector<std::string>& refused) {
  if (refused.empty()) {
    return Err(Code::kNotFound, "there is no checkpoint in {}", directory.string());
  }
  return Err(Code::kDataLoss, "all {} checkpoints in {} are damaged: {}", refused.size(),
             directory.string(), fmt::join(refused, "; "));
}

}  // namespace

std::vector<CheckpointEntry> ListCheckpoints(const fs::path& directory) {
  Result<std::vector<CheckpointEntry>> entries = FindCheckpoints(directory);
  if (entries) return std::move(*entries);
  log::warn("checkpoint list error=\"{}\"", entries.error().ToString());
  return {};
}

Status WriteCheckpoint(const fs::path& directory, const State& state, const CheckpointFacts& facts,
                       int keep) {
  MUSTER_CHECK(keep >= 1, "keep is {}", keep);
  MUSTER_TRY(CheckAtOneStep(state));
  MUSTER_TRY(CreateDirectory(directory));
  MUSTER_TRY(CleanUpAfterDeadWriters(directory));
  {
    MUSTER_ASSIGN(NewFolder folder, NewFolder::Create(directory, state.step()));
    Manifest manifest{.facts = facts, .counters = state.header(), .tensors = state.tensors()};
    for (size_t i = 0; i < state.tensors().size(); ++i) {
      manifest.hashes.push_back(HashBytes(state.tensor_bytes(i)).ToHex());
    }
    MUSTER_TRY(WriteStateFile(folder.path() / kStateFile, state, manifest));
    MUSTER_TRY(WriteManifestFile(folder.path() / kManifestFile, manifest));
    MUSTER_TRY(folder.Publish());
  }
  const Status tidied = KeepNewest(directory, state.step(), keep);
  if (!tidied) log::warn("checkpoint retention error=\"{}\"", tidied.error().ToString());
  return {};
}

Status LoadCheckpoint(const fs::path& folder, const CheckpointFacts& facts, State& state) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    return Err(Code::kNotFound, "there is no checkpoint {}", folder.string());
  }
  MUSTER_ASSIGN(const Manifest manifest, ReadManifestFile(folder / kManifestFile));
  const Status checked = CheckManifest(manifest, folder, facts, state);
  if (!checked) return About(folder / kManifestFile, checked.error());
  MUSTER_ASSIGN(OldFile file, OldFile::Open(folder / kStateFile));
  State loaded(state.tensors());
  const Status read = ReadTensors(file, manifest, loaded);
  if (!read) return About(folder / kStateFile, read.error());
  loaded.header() = manifest.counters;
  // Copied, not moved: the caller holds spans of the image.
  std::ranges::copy(loaded.image(), state.image().begin());
  state.set_all_page_versions(state.position());
  return {};
}

Result<LoadedCheckpoint> LoadNewestCheckpoint(const fs::path& directory,
                                              const CheckpointFacts& facts, State& state) {
  MUSTER_ASSIGN(const std::vector<CheckpointEntry> entries, FindCheckpoints(directory));
  LoadedCheckpoint loaded;
  for (const CheckpointEntry& entry : entries) {
    const Status status = LoadCheckpoint(entry.folder, facts, state);
    if (status) {
      loaded.entry = entry;
      return loaded;
    }
    // One that has just been removed by a writer's retention was not the newest.
    if (status.error().code == Code::kNotFound) continue;
    if (status.error().code != Code::kDataLoss) {
      return tl::unexpected<Error>(status.error());
    }
    loaded.refused.push_back(status.error().message);
  }
  return tl::unexpected<Error>(NothingUsable(directory, loaded.refused).error());
}

}  // namespace muster
