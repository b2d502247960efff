// ChunkStore: a folder of chunks, each in a file named by its hash, compressed as it travels. Nothing comes in unchecked.
//
// Threading: safe from any thread. Invariant: a file with the name of a hash is whole (it is renamed to it).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/bundle/manifest.h"
#include "runtime/base/status.h"
#include "runtime/base/thread_annotations.h"

namespace muster {

class ChunkStore {
 public:
  // Makes the folder if it is not there. Errors: those of the file system.
  static Result<std::unique_ptr<ChunkStore>> Open(const std::filesystem::path& folder);

  bool Has(std::string_view hash) const;

  // Keeps a chunk. Errors: kDataLoss (it is not what its hash says); those of the file system.
  Status Put(std::string_view hash, std::string_view compressed) EXCLUDES(mutex_);

  // As it travels. Errors: kNotFound.
  Result<std::string> Get(std::string_view hash) const;
  // Its bytes. Errors: kNotFound, kDataLoss.
  Result<std::string> Read(std::string_view hash) const;

  // The manifest of `bundle`, which is kept as a chunk like any other. Errors: those of Read and Manifest::Parse.
  Result<Manifest> ReadManifest(const std::string& bundle) const;
  // The chunks of `manifest` that are not here.
  std::vector<std::string> Missing(const Manifest& manifest) const;

 private:
  explicit ChunkStore(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path PathOf(std::string_view hash) const { return folder_ / hash; }

  const std::filesystem::path folder_;
  Mutex mutex_;  // writers use the same temporary name for the same chunk
};

// Writes all files of `manifest` below `folder`; each is whole as soon as it has its name. Errors: those of ChunkStore::Read and of
// the file system, naming the file.
Status Unpack(const Manifest& manifest, const ChunkStore& store,
              const std::filesystem::path& folder);

}  // namespace muster
