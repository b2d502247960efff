#include "collectives/host/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "collectives/host/socket.h"
#include "runtime/base/check.h"

namespace muster::host {
namespace {

constexpr size_t kPage = 4096;
constexpr int kRequiredSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr int kFutureWrite = 0x0010;  // F_SEAL_FUTURE_WRITE, newer than some C libraries
constexpr size_t kHugePage = size_t{2} << 20;

tl::unexpected<Error> NoMemory(const char* call, size_t bytes) {
  return Err(Code::kResourceExhausted, "{} of {} bytes of shared memory: {}", call, bytes,
             std::strerror(errno));
}

Result<UniqueFd> CreateMemfd(size_t bytes) {
  UniqueFd fd(::memfd_create("muster-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return NoMemory("memfd_create", bytes);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return NoMemory("ftruncate", bytes);
  return fd;
}

// To be called when the owner's writable mapping exists: later ones are refused.
Status Seal(int fd, size_t bytes) {
  if (::fcntl(fd, F_ADD_SEALS, kRequiredSeals) != 0) return NoMemory("sealing", bytes);
  // An older kernel refuses this seal; then peers map read-only because they want to.
  (void)::fcntl(fd, F_ADD_SEALS, kFutureWrite | F_SEAL_SEAL);
  return {};
}

// Whether `fd` has at least `bytes` and can never have fewer, so that reading a mapping of it cannot fault.
bool IsSealed(int fd, uint64_t bytes) {
  struct stat status {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && ::fstat(fd, &status) == 0 &&
         static_cast<uint64_t>(status.st_size) >= bytes;
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<Mapping> Mapping::Create(int fd, size_t bytes, bool writable) {
  const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  void* data = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return NoMemory("mmap", bytes);
  // Fewer page faults where the system allows huge pages for shared memory; advice only.
  if (bytes >= kHugePage) (void)::madvise(data, bytes, MADV_HUGEPAGE);
  return Mapping(static_cast<std::byte*>(data), bytes);
}

Result<std::span<std::byte>> Arena::Allocate(size_t bytes) {
  if (bytes == 0) return std::span<std::byte>();
  if (bytes > size_t{1} << 46) {
    return Err(Code::kResourceExhausted, "{} bytes are more than a process can map", bytes);
  }
  const size_t rounded = (bytes + kPage - 1) / kPage * kPage;
  MUSTER_ASSIGN(UniqueFd fd, CreateMemfd(rounded));
  MUSTER_ASSIGN(Mapping mapping, Mapping::Create(fd.get(), rounded, true));
  MUSTER_TRY(Seal(fd.get(), rounded));
  const std::span<std::byte> memory = mapping.bytes().first(bytes);
  std::lock_guard lock(mutex_);
  if (segments_.size() == kMaxSegments) {
    return Err(Code::kResourceExhausted, "{} allocations of shared memory are the limit",
               kMaxSegments);
  }
  by_begin_[memory.data()] = static_cast<uint32_t>(segments_.size());
  segments_.push_back({std::move(fd), std::move(mapping)});
  return memory;
}

std::optional<Arena::Place> Arena::Find(std::span<const std::byte> range) const {
  std::lock_guard lock(mutex_);
  auto after = by_begin_.upper_bound(range.data());
  if (after == by_begin_.begin()) return std::nullopt;
  const auto& [begin, index] = *std::prev(after);
  const size_t offset = static_cast<size_t>(range.data() - begin);
  const size_t bytes = segments_[index].mapping.bytes().size();
  if (offset > bytes || range.size() > bytes - offset) return std::nullopt;
  return Place{index, offset};
}

Arena::Segment Arena::segment(uint32_t index) const {
  std::lock_guard lock(mutex_);
  MUSTER_CHECK(index < segments_.size());
  return {segments_[index].fd.get(), segments_[index].mapping.bytes().size()};
}

Status RemoteArena::Add(uint32_t index, uint64_t bytes, UniqueFd fd) {
  if (!fd || index >= Arena::kMaxSegments || bytes == 0 || segments_.contains(index) ||
      !IsSealed(fd.get(), bytes)) {
    return Err(Code::kInvalidArgument, "segment {} of {} bytes is not usable", index, bytes);
  }
  MUSTER_ASSIGN(segments_[index], Mapping::Create(fd.get(), bytes, false));
  return {};
}

const std::byte* RemoteArena::Find(uint32_t index, uint64_t offset, uint64_t bytes) const {
  const auto found = segments_.find(index);
  if (found == segments_.end()) return nullptr;
  const size_t size = found->second.bytes().size();
  if (offset > size || bytes > size - offset) return nullptr;
  return found->second.bytes().data() + offset;
}

Result<Probe> Probe::Create() {
  Probe probe;
  FillRandom(probe.token_);
  MUSTER_ASSIGN(probe.fd_, CreateMemfd(kPage));
  MUSTER_ASSIGN(const Mapping page, Mapping::Create(probe.fd_.get(), kPage, true));
  std::ranges::copy(probe.token_, page.bytes().data());
  MUSTER_TRY(Seal(probe.fd_.get(), kPage));
  return probe;
}

bool Probe::Check(int fd, const Token& token) {
  if (fd < 0 || !IsSealed(fd, kPage)) return false;
  const auto page = Mapping::Create(fd, kPage, false);
  return page && std::ranges::equal(token, page->bytes().first(token.size()));
}

}  // namespace muster::host
