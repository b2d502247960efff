#include "launcher/bundle/local_bundle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> NotSendable(const fs::path& path) {
  return Err(Code::kInvalidArgument, "{} is neither a file nor a folder, it cannot be sent",
             path.string());
}

// The files that `source` means.
Status AddFiles(const BundleSource& source, std::vector<BundleSource>* files) {
  std::error_code error;
  if (fs::is_regular_file(source.source, error)) {
    files->push_back(source);
    return {};
  }
  if (error == std::errc::no_such_file_or_directory || !fs::exists(source.source, error)) {
    return Err(Code::kNotFound, "{} is not there", source.source.string());
  }
  if (!fs::is_directory(source.source, error)) return NotSendable(source.source);
  fs::recursive_directory_iterator all(source.source, error);
  for (; !error && all != fs::recursive_directory_iterator(); all.increment(error)) {
    if (all->is_directory(error) && !all->is_symlink(error)) continue;
    if (!all->is_regular_file(error)) return NotSendable(all->path());
    if (files->size() > kMaxBundleFiles) {
      return Err(Code::kInvalidArgument, "{} has more than {} files, which cannot be sent",
                 source.source.string(), kMaxBundleFiles);
    }
    const std::string below = all->path().lexically_relative(source.source).generic_string();
    files->push_back({all->path(), source.path + "/" + below});
  }
  if (!error) return {};
  return Err(Code::kPermissionDenied, "{} cannot be read: {}", source.source.string(),
             error.message());
}

}  // namespace

Result<std::string> LocalBundle::ReadAt(const Place& place) {
  UniqueFd fd(::open(place.file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, fmt::format("cannot open {}", place.file.string()));
  std::string bytes(place.size, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(fd.get(), bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(place.offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, fmt::format("cannot read {}", place.file.string()));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Result<ManifestEntry> LocalBundle::Describe(const BundleSource& file,
                                            std::map<std::string, Place>* places) {
  struct stat about = {};
  if (::stat(file.source.c_str(), &about) != 0) {
    return ErrnoError(errno, fmt::format("cannot look at {}", file.source.string()));
  }
  ManifestEntry entry{.path = file.path, .executable = (about.st_mode & S_IXUSR) != 0};
  entry.size = static_cast<uint64_t>(about.st_size);
  if (entry.size > kMaxBundleBytes) return entry;  // Manifest::Create refuses it, with words
  for (uint64_t offset = 0; offset < entry.size; offset += kMaxChunkBytes) {
    const auto size = std::min<uint64_t>(kMaxChunkBytes, entry.size - offset);
    const Place place{file.source, offset, static_cast<size_t>(size)};
    MUSTER_ASSIGN(const std::string bytes, ReadAt(place));
    if (bytes.size() != size) {
      return Err(Code::kAborted, "{} became shorter while it was read", file.source.string());
    }
    entry.chunks.push_back(Sha256(bytes));
    places->emplace(entry.chunks.back(), place);
  }
  return entry;
}

Result<LocalBundle> LocalBundle::Create(const std::vector<BundleSource>& sources) {
  std::vector<BundleSource> files;
  for (const BundleSource& source : sources) MUSTER_TRY(AddFiles(source, &files));
  std::vector<ManifestEntry> entries;
  std::map<std::string, Place> places;
  for (const BundleSource& file : files) {
    MUSTER_TRY(CheckBundlePath(file.path));
    MUSTER_ASSIGN(ManifestEntry entry, Describe(file, &places));
    entries.push_back(std::move(entry));
  }
  MUSTER_ASSIGN(Manifest manifest, Manifest::Create(std::move(entries)));
  return LocalBundle(std::move(manifest), std::move(places));
}

Result<std::string> LocalBundle::Compressed(const std::string& hash) const {
  if (hash == hash_) return CompressChunk(manifest_.text());
  const auto found = places_.find(hash);
  if (found == places_.end()) {
    return Err(Code::kNotFound, "the chunk {:.12} is none of this bundle", hash);
  }
  MUSTER_ASSIGN(const std::string bytes, ReadAt(found->second));
  if (Sha256(bytes) == hash) return CompressChunk(bytes);
  return WithHint(Err(Code::kAborted, "{} has been changed since the job was started",
                      found->second.file.string()),
                  "start the job again, and leave its files alone until they have been sent");
}

uint64_t LocalBundle::SizeOf(const std::string& hash) const {
  if (hash == hash_) return manifest_.text().size();
  const auto found = places_.find(hash);
  return found == places_.end() ? 0 : found->second.size;
}

}  // namespace muster
