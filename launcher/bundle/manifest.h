// Manifest: what a job needs on a cluster beside its image: the files, and the chunks that each consists of. The SHA-256 of its text
// names the whole bundle, so that whoever knows the name can check everything, the manifest itself first.
//
// Threading: plain values and pure functions. Invariant of what Parse and Create return: it is canonical and within the limits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/bundle/chunk.h"
#include "runtime/base/status.h"

namespace muster {

inline constexpr size_t kMaxBundleFiles = 4096;
inline constexpr uint64_t kMaxBundleBytes = uint64_t{1} << 30;  // of all files, before compression
inline constexpr size_t kMaxBundlePath = 1024;                  // bytes of a path, 255 of each part

struct ManifestEntry {
  std::string path;  // below the folder where the program starts: "data/train.bin"
  bool executable = false;
  uint64_t size = 0;
  std::vector<std::string> chunks;  // hashes; all of kMaxChunkBytes but the last
  bool operator==(const ManifestEntry&) const = default;
};

class Manifest {
 public:
  // Sorts the entries. Errors: kInvalidArgument naming the file: a path that is absolute, has a part that is empty, "." or "..", is not
  // UTF-8, is of Muster's own folder, or is given twice or as both file and folder; more than the limits above.
  static Result<Manifest> Create(std::vector<ManifestEntry> entries);

  // Reads what Text() has written. Errors: kDataLoss (not JSON, other keys, not canonical); those of Create.
  static Result<Manifest> Parse(std::string_view text);

  // Canonical JSON: equal manifests have the same bytes. At most kMaxChunkBytes.
  const std::string& text() const { return text_; }
  std::string hash() const { return Sha256(text_); }

  const std::vector<ManifestEntry>& entries() const { return entries_; }
  uint64_t bytes() const;                   // of all files
  std::vector<std::string> Chunks() const;  // each once, in the order of their first use

 private:
  Manifest(std::vector<ManifestEntry> entries, std::string text)
      : entries_(std::move(entries)), text_(std::move(text)) {}

  std::vector<ManifestEntry> entries_;
  std::string text_;
};

// What Create says of a path.
Status CheckBundlePath(std::string_view path);

// "3.1 MiB", "812 KiB", "5 bytes".
std::string BytesText(uint64_t bytes);

}  // namespace muster
