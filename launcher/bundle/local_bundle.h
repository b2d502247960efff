// LocalBundle: the bundle of files on this machine: what they are, and each chunk of them when it is asked for. Nothing is copied.
//
// Threading: Create reads all files. Afterwards a plain value; const methods are safe from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/bundle/manifest.h"
#include "runtime/base/status.h"

namespace muster {

struct BundleSource {
  std::filesystem::path source;  // a file or folder of this machine
  std::string path;              // of the bundle: where it shall be
  bool operator==(const BundleSource&) const = default;
};

class LocalBundle {
 public:
  // All that `sources` name, folders with all that is in them; a link to a file is that file. Errors: kInvalidArgument, kNotFound or
  // kPermissionDenied naming the file; those of Manifest::Create.
  static Result<LocalBundle> Create(const std::vector<BundleSource>& sources);

  const Manifest& manifest() const { return manifest_; }
  const std::string& hash() const { return hash_; }

  // A chunk of it, or the manifest, compressed. Errors: kNotFound (no chunk of this bundle), kAborted (the file has been changed since
  // Create), those of reading it.
  Result<std::string> Compressed(const std::string& hash) const;
  // Bytes of such a chunk before compression; 0 if there is none.
  uint64_t SizeOf(const std::string& hash) const;

 private:
  struct Place {
    std::filesystem::path file;
    uint64_t offset = 0;
    size_t size = 0;
  };
  LocalBundle(Manifest manifest, std::map<std::string, Place> places)
      : manifest_(std::move(manifest)), hash_(manifest_.hash()), places_(std::move(places)) {}

  static Result<std::string> ReadAt(const Place& place);
  static Result<ManifestEntry> Describe(const BundleSource& file,
                                        std::map<std::string, Place>* places);

  Manifest manifest_;
  std::string hash_;
  std::map<std::string, Place> places_;  // of each chunk
};

}  // namespace muster
