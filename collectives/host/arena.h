// Arena: memory that the processes of one machine read from each other. Each allocation is a segment: a sealed memfd that its
// owner maps writable and a peer maps read-only.
//
// Threading: Arena is safe from any thread; RemoteArena belongs to one thread at a time.
// Ownership: segments live as long as the arena; a peer's mapping keeps their pages alive after the owner has died.
// Invariants: a segment never changes its size (F_SEAL_SHRINK, so a peer's read cannot fault), and nobody but its owner can map
// it writable (F_SEAL_FUTURE_WRITE where the kernel has it, Linux 5.1).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster::host {

// A mapped file, unmapped when destroyed.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // Maps the first `bytes` of `fd`. Errors: kResourceExhausted.
  static Result<Mapping> Create(int fd, size_t bytes, bool writable);

  std::span<std::byte> bytes() const { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

class Arena {
 public:
  static constexpr uint32_t kMaxSegments = 4096;

  // Where a range of this process's memory lies, for a peer.
  struct Place {
    uint32_t segment = 0;
    size_t offset = 0;
  };
  struct Segment {
    int fd = -1;  // stays open as long as the arena
    size_t bytes = 0;
  };

  // Zeroed memory in a segment of its own, aligned to a page. Errors: kResourceExhausted.
  Result<std::span<std::byte>> Allocate(size_t bytes);

  // The place of `range`; nothing if it is not within one allocation.
  std::optional<Place> Find(std::span<const std::byte> range) const;

  Segment segment(uint32_t index) const;

 private:
  struct Entry {
    UniqueFd fd;
    Mapping mapping;
  };
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::vector<Entry> segments_;
  std::map<const std::byte*, uint32_t> by_begin_;
};

// The segments of one peer, mapped read-only.
class RemoteArena {
 public:
  // Maps a segment that the peer passed. Errors: kInvalidArgument (not sealed, smaller than said, or known already),
  // kResourceExhausted.
  Status Add(uint32_t index, uint64_t bytes, UniqueFd fd);

  // The memory at `offset`; nullptr unless all `bytes` lie in a known segment.
  const std::byte* Find(uint32_t index, uint64_t offset, uint64_t bytes) const;

 private:
  std::map<uint32_t, Mapping> segments_;
};

// Proves that two processes can share memory: a page with a random token, passed in the handshake. Who maps it and finds the
// token that came over the socket can read our arena.
class Probe {
 public:
  using Token = std::array<std::byte, 32>;
  static Result<Probe> Create();
  int fd() const { return fd_.get(); }
  const Token& token() const { return token_; }

  // Whether `fd` is a mappable page that holds `token`.
  static bool Check(int fd, const Token& token);

 private:
  UniqueFd fd_;
  Token token_{};
};

}  // namespace muster::host
