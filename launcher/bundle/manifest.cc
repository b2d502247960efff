#include "launcher/bundle/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/job/fields.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr size_t kMaxPart = 255;  // bytes of a name, of Linux
constexpr std::string_view kOwnFolder = ".muster";

tl::unexpected<Error> BadPath(std::string_view path, std::string_view why) {
  const std::string shown =
      json(path).dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 200);
  return Err(Code::kInvalidArgument, "the path {} cannot be sent: {}", shown, why);
}

uint64_t ChunkCount(uint64_t size) { return (size + kMaxChunkBytes - 1) / kMaxChunkBytes; }

Status CheckEntry(const ManifestEntry& entry) {
  MUSTER_TRY(CheckBundlePath(entry.path));
  if (entry.size > kMaxBundleBytes) {
    return Err(Code::kInvalidArgument, "{} has {}, more than {} cannot be sent", entry.path,
               BytesText(entry.size), BytesText(kMaxBundleBytes));
  }
  const bool whole =
      entry.chunks.size() == ChunkCount(entry.size) &&
      std::ranges::all_of(entry.chunks, [](const auto& hash) { return IsSha256(hash); });
  if (whole) return {};
  return Err(Code::kInvalidArgument, "{} is not described by its chunks", entry.path);
}

// No path twice, and none that another one needs as a folder. `entries` are sorted.
Status CheckCollisions(const std::vector<ManifestEntry>& entries) {
  std::set<std::string_view> files;
  for (const ManifestEntry& entry : entries) {
    if (!files.insert(entry.path).second) return BadPath(entry.path, "two files would be there");
  }
  for (const ManifestEntry& entry : entries) {
    const std::string_view path = entry.path;
    for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
      const auto file = files.find(path.substr(0, slash));
      if (file != files.end()) return BadPath(*file, "it is a file, and a folder of others");
    }
  }
  return {};
}

Status CheckSizes(const std::vector<ManifestEntry>& entries) {
  if (entries.size() > kMaxBundleFiles) {
    return Err(Code::kInvalidArgument, "there are {} files to send, more than {} are not sent",
               entries.size(), kMaxBundleFiles);
  }
  uint64_t bytes = 0;
  for (const ManifestEntry& entry : entries) {
    MUSTER_TRY(CheckEntry(entry));
    bytes += entry.size;
    if (bytes <= kMaxBundleBytes) continue;
    return WithHint(Err(Code::kInvalidArgument, "with {} there are more than {} to send",
                        entry.path, BytesText(kMaxBundleBytes)),
                    "data of that size belongs into the image or on shared storage");
  }
  return {};
}

std::string TextOf(const std::vector<ManifestEntry>& entries) {
  json files = json::array();
  for (const ManifestEntry& entry : entries) {
    files.push_back({{"path", entry.path},
                     {"executable", entry.executable},
                     {"size", entry.size},
                     {"chunks", entry.chunks}});
  }
  return json{{"chunk_bytes", kMaxChunkBytes}, {"files", files}}.dump();
}

}  // namespace

Status CheckBundlePath(std::string_view path) {
  if (path.empty() || path.size() > kMaxBundlePath) return BadPath(path, "its length");
  if (path.front() == '/') return BadPath(path, "it must be relative");
  if (!FitsIntoJson(path) || std::ranges::any_of(path, [](unsigned char c) { return c < ' '; })) {
    return BadPath(path, "it is no readable text");
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part == "..") return BadPath(path, "it leads out of its folder");
    if (part.empty() || part == ".") return BadPath(path, "a part of it is empty");
    if (part.size() > kMaxPart) return BadPath(path, "a part of it is too long");
    if (begin == 0 && part == kOwnFolder) return BadPath(path, "that folder is Muster's own");
    begin = end + 1;
  }
  return {};
}

Result<Manifest> Manifest::Create(std::vector<ManifestEntry> entries) {
  MUSTER_TRY(CheckSizes(entries));
  std::ranges::sort(entries, {}, &ManifestEntry::path);
  MUSTER_TRY(CheckCollisions(entries));
  std::string text = TextOf(entries);
  if (text.size() > kMaxChunkBytes) {
    return Err(Code::kInvalidArgument, "the list of the {} files to send is too long",
               entries.size());
  }
  return Manifest(std::move(entries), std::move(text));
}

Result<Manifest> Manifest::Parse(std::string_view text) {
  std::vector<ManifestEntry> entries;
  try {
    const json object = ParseIntegerJson(text);
    for (const json& file : object.at("files")) {
      ManifestEntry& entry = entries.emplace_back();
      file.at("path").get_to(entry.path);
      file.at("executable").get_to(entry.executable);
      file.at("size").get_to(entry.size);
      file.at("chunks").get_to(entry.chunks);
    }
  } catch (const json::exception& error) {
    return Err(Code::kDataLoss, "the list of a bundle's files cannot be read: {}", error.what());
  }
  MUSTER_ASSIGN(Manifest manifest, Create(std::move(entries)));
  if (manifest.text() == text) return manifest;
  return Err(Code::kDataLoss, "the list of a bundle's files is not in its canonical form");
}

uint64_t Manifest::bytes() const {
  uint64_t bytes = 0;
  for (const ManifestEntry& entry : entries_) bytes += entry.size;
  return bytes;
}

std::vector<std::string> Manifest::Chunks() const {
  std::vector<std::string> chunks;
  std::set<std::string_view> seen;
  for (const ManifestEntry& entry : entries_) {
    for (const std::string& hash : entry.chunks) {
      if (seen.insert(hash).second) chunks.push_back(hash);
    }
  }
  return chunks;
}

std::string BytesText(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= uint64_t{1} << 30) return fmt::format("{:.1f} GiB", value / (1 << 30));
  if (bytes >= uint64_t{1} << 20) return fmt::format("{:.1f} MiB", value / (1 << 20));
  if (bytes >= uint64_t{1} << 10) return fmt::format("{:.0f} KiB", value / (1 << 10));
  return fmt::format("{} bytes", bytes);
}

}  // namespace muster
