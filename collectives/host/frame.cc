#include "collectives/host/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace muster::host {

// Frames are sent as they lie in memory.
static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");
static_assert(std::has_unique_object_representations_v<Frame> && sizeof(Frame) == 48);

std::optional<std::string> Frame::Validate(size_t chunk_bytes, int size) const {
  if (magic != kMagic) return fmt::format("magic {:08x}", magic);
  switch (type) {
    case FrameType::kInline:
    case FrameType::kShared:
      if (bytes > chunk_bytes) return fmt::format("a message of {} bytes", bytes);
      return std::nullopt;
    case FrameType::kRevoke:
      if (bytes > kMaxReason) return fmt::format("a reason of {} bytes", bytes);
      if (rank < kNobody || rank >= size) return fmt::format("rank {} of {}", rank, size);
      return std::nullopt;
    case FrameType::kDone:
    case FrameType::kSegment:
    case FrameType::kHeartbeat:
      return std::nullopt;
  }
  return fmt::format("frame type {}", static_cast<int>(type));
}

uint16_t Operation::code() const {
  return static_cast<uint16_t>(static_cast<unsigned>(kind) << 8 | unsigned{element} << 4 |
                               static_cast<unsigned>(op));
}

std::string Describe(uint16_t operation_code, uint64_t total) {
  static constexpr const char* kKinds[] = {"all-reduce", "reduce-scatter", "all-gather",
                                           "broadcast",  "barrier",        "exchange"};
  static constexpr const char* kOps[] = {"sum", "maximum", "minimum"};
  static constexpr const char* kElements[] = {"float32", "int32", "int64"};
  const unsigned kind = operation_code >> 8;
  const unsigned element = operation_code >> 4 & 15;
  const unsigned op = operation_code & 15;
  if (kind < 1 || kind > std::size(kKinds)) {
    return fmt::format("unknown operation {}", operation_code);
  }
  const bool reduces = element >= 1 && element <= std::size(kElements) && op < std::size(kOps);
  const std::string what =
      reduces ? fmt::format(" ({} of {})", kOps[op], kElements[element - 1]) : std::string();
  return fmt::format("{}{} of {} bytes", kKinds[kind - 1], what, total);
}

std::string RevokeFrame(const std::string& reason, std::optional<int> lost_peer) {
  const std::string text = reason.substr(0, Frame::kMaxReason);
  Frame frame{.type = FrameType::kRevoke, .bytes = text.size()};
  frame.rank = lost_peer.value_or(Frame::kNobody);
  std::string bytes(sizeof(frame), '\0');
  std::memcpy(bytes.data(), &frame, sizeof(frame));
  return bytes + text;
}

}  // namespace muster::host
