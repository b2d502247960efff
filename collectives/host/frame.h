// Frame: the unit on a connection after the handshake: a fixed header, and for some types a payload.
//
//   kInline   `bytes` of data follow                                   } message number `sequence` of this connection,
//   kShared   `bytes` of data lie at `offset` of segment `segment`     } part of `operation` over `total` bytes
//   kDone     the sender has finished reading `sequence` kShared messages of this connection
//   kSegment  a descriptor comes along: segment `segment` of `bytes`
//   kRevoke   the generation is over; `bytes` of reason follow, `rank` was lost (or kNobody)
//   kHeartbeat  the sender's process runs
//
// Everything that arrives is untrusted: a header is checked by Validate() and then by the link that knows what it expects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "collectives/communicator.h"

namespace muster::host {

enum class FrameType : uint16_t { kInline = 1, kShared, kDone, kSegment, kRevoke, kHeartbeat };

struct Frame {
  static constexpr uint32_t kMagic = 0x454d'5246;
  static constexpr int32_t kNobody = -1;
  static constexpr size_t kMaxReason = 512;

  uint32_t magic = kMagic;
  FrameType type = FrameType::kInline;
  uint16_t operation = 0;
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  uint64_t total = 0;
  uint64_t offset = 0;
  uint32_t segment = 0;
  int32_t rank = kNobody;

  // What is wrong with the header, if anything is. `chunk_bytes` limits a message, `size` is the number of ranks.
  std::optional<std::string> Validate(size_t chunk_bytes, int size) const;
};

// What a message is part of. Ranks that meet in different operations, or in the same over a different size, disagree.
struct Operation {
  enum class Kind : uint8_t {
    kAllReduce = 1,
    kReduceScatter,
    kAllGather,
    kBroadcast,
    kBarrier,
    kExchange
  };
  Kind kind = Kind::kBarrier;
  uint8_t element = 0;  // of a reduction: kFloat32, kInt32 or kInt64
  ReduceOp op = ReduceOp::kSum;
  uint64_t total = 0;  // bytes

  static constexpr uint8_t kFloat32 = 1;
  static constexpr uint8_t kInt32 = 2;
  static constexpr uint8_t kInt64 = 3;

  uint16_t code() const;
};

// "all-reduce (sum of float32) of 400 bytes", also for a code that makes no sense.
std::string Describe(uint16_t operation_code, uint64_t total);

// A whole kRevoke frame.
std::string RevokeFrame(const std::string& reason, std::optional<int> lost_peer);

}  // namespace muster::host
