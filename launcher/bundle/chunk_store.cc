#include "launcher/bundle/chunk_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "runtime/base/files.h"
#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

Status UnpackFile(const ManifestEntry& entry, const ChunkStore& store,
                  const std::filesystem::path& path) {
  MUSTER_TRY(MakeFolder(path.parent_path()));
  const std::filesystem::path half = path.string() + ".part";
  UniqueFd fd(::open(half.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return ErrnoError(errno, fmt::format("cannot create {}", half.string()));
  for (const std::string& hash : entry.chunks) {
    MUSTER_ASSIGN(const std::string bytes, store.Read(hash));
    MUSTER_TRY(WriteAll(fd.get(), std::as_bytes(std::span(bytes)), half.string()));
  }
  if (::fchmod(fd.get(), entry.executable ? 0755 : 0644) != 0) {
    return ErrnoError(errno, fmt::format("cannot set the mode of {}", half.string()));
  }
  fd.reset();
  if (::rename(half.c_str(), path.c_str()) == 0) return {};
  return ErrnoError(errno, fmt::format("cannot rename {}", half.string()));
}

}  // namespace

Result<std::unique_ptr<ChunkStore>> ChunkStore::Open(const std::filesystem::path& folder) {
  MUSTER_TRY(MakeFolder(folder));
  return std::unique_ptr<ChunkStore>(new ChunkStore(folder));
}

bool ChunkStore::Has(std::string_view hash) const {
  std::error_code error;
  return IsSha256(hash) && std::filesystem::exists(PathOf(hash), error);
}

Status ChunkStore::Put(std::string_view hash, std::string_view compressed) {
  MUSTER_TRY(DecompressChunk(hash, compressed));
  MutexLock lock(mutex_);
  return WriteFileAtomically(PathOf(hash), compressed);
}

Result<std::string> ChunkStore::Get(std::string_view hash) const {
  if (!Has(hash)) return Err(Code::kNotFound, "the chunk {:.12} is not here", hash);
  return ReadFile(PathOf(hash), kMaxCompressedBytes);
}

Result<std::string> ChunkStore::Read(std::string_view hash) const {
  MUSTER_ASSIGN(const std::string compressed, Get(hash));
  return DecompressChunk(hash, compressed);
}

Result<Manifest> ChunkStore::ReadManifest(const std::string& bundle) const {
  MUSTER_ASSIGN(const std::string text, Read(bundle));
  return Manifest::Parse(text);
}

std::vector<std::string> ChunkStore::Missing(const Manifest& manifest) const {
  std::vector<std::string> missing = manifest.Chunks();
  std::erase_if(missing, [this](const std::string& hash) { return Has(hash); });
  return missing;
}

Status Unpack(const Manifest& manifest, const ChunkStore& store,
              const std::filesystem::path& folder) {
  for (const ManifestEntry& entry : manifest.entries()) {
    MUSTER_TRY(UnpackFile(entry, store, folder / entry.path));
  }
  return {};
}

}  // namespace muster
