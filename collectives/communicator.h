// Communicator: the ranks of one generation exchanging data; Backend: what a process keeps from one generation to the next.
//
// Every rank calls the same operations in the same order. Every operation ends on every rank within a bounded time
// with a result or an error, whatever dies. After any error the communicator is dead: destroy it and build the next.
//
// Threading: operations come from one thread at a time; Revoke(), revoked() and lost_peer() may be called from any
// thread at any time. Ownership: buffers belong to the caller and must stay alive for the duration of the call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/cuda/driver_api.h"

namespace muster {

enum class ReduceOp { kSum, kMax, kMin };

// One side of a point-to-point transfer in an Exchange.
struct SendTo {
  int rank = 0;
  std::span<const std::byte> data;
};
struct ReceiveFrom {
  int rank = 0;
  std::span<std::byte> data;  // filled completely: the sizes of both sides must agree
};

// Sums of memory on a GPU, by the ranks of a communicator. What is queued on a stream is done later: nothing of it counts before
// Await() has returned.
//
// Threading: as the operations of Communicator, and not together with them.
class DeviceCollectives {
 public:
  enum class Lane { kFloat32, kInt32, kInt64 };

  virtual ~DeviceCollectives() = default;

  // Queues on `stream` that the `count` lanes at `memory` become their sum over all ranks, which pass the same count and lanes.
  // Integers wrap; floats are added in an order that may change with the number of ranks. Errors: as Communicator::AllReduce.
  virtual Status Sum(cuda::DevicePointer memory, size_t count, Lane lane, cuda::Stream stream) = 0;

  // Returns when all that was queued before `event` was recorded is done, on every rank. Errors: as Communicator::AllReduce, kInternal
  // (the device has failed); then nothing that was queued here touches the memory any more.
  virtual Status Await(cuda::Event event) = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual uint64_t generation() const = 0;

  // Element-wise reduction of `values` over all ranks, in place; every rank must pass the same count. After an error the
  // content of `values` is undefined. Integer results do not depend on rank order; float sums are taken in rank order, so
  // that all ranks hold equal bits, but they change with the number of ranks. Integer sums wrap (two's complement).
  // Memory from Backend::Allocate is reduced without an extra copy.
  // Errors: kAborted (revoked here or by a peer, or a peer was lost: see lost_peer()), kDeadlineExceeded (a peer was
  // silent for the heartbeat timeout, or brought nothing for the operation timeout; also revokes), kInvalidArgument (counts
  // differ; also revokes).
  virtual Status AllReduce(std::span<float> values, ReduceOp op) = 0;
  virtual Status AllReduce(std::span<int32_t> values, ReduceOp op) = 0;
  virtual Status AllReduce(std::span<int64_t> values, ReduceOp op) = 0;

  // Reduces like AllReduce, but rank r gets only slice r of the result, in place: elements
  // [SliceBegin(count, size, r), SliceBegin(count, size, r + 1)). The others are undefined. Errors: as AllReduce.
  virtual Status ReduceScatter(std::span<float> values, ReduceOp op) = 0;
  virtual Status ReduceScatter(std::span<int32_t> values, ReduceOp op) = 0;
  virtual Status ReduceScatter(std::span<int64_t> values, ReduceOp op) = 0;

  // Gathers `mine` (the same size on all ranks) of every rank into `all`, in rank order; `all` holds size() x mine bytes
  // and may contain `mine` at its own place. Errors: as AllReduce.
  virtual Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;

  // Copies `data` of `root` to all ranks. Errors: as AllReduce.
  virtual Status Broadcast(std::span<std::byte> data, int root) = 0;

  // Returns when all ranks have entered; this one does when `entered` says so, which is asked often and must not block. So a rank waits
  // for something of its own, such as a GPU, and notices meanwhile that a peer dies. Errors: as AllReduce; an error of `entered`, which
  // revokes.
  virtual Status Barrier(const std::function<Result<bool>()>& entered) = 0;
  Status Barrier() {
    return Barrier([] { return true; });
  }

  // A group of point-to-point transfers that progress together (no order between different peers, list order between
  // the same pair); returns when all are complete. Only the ranks named take part, each with its matching half.
  // Errors: as AllReduce.
  virtual Status Exchange(std::span<const SendTo> sends, std::span<const ReceiveFrom> receives) = 0;

  // The sums of memory on a GPU; null if this communicator has none.
  virtual DeviceCollectives* device() { return nullptr; }

  // Ends the communicator on all ranks: pending and later operations here return kAborted at once, and the revocation is
  // flooded to all peers with `reason`. Idempotent, does not block.
  virtual void Revoke(const std::string& reason) = 0;

  virtual bool revoked() const = 0;

  // Why it was revoked ("peer 2 (w-2) closed the connection"), empty while it is not.
  virtual std::string revoke_reason() const = 0;

  // The rank that this rank, or the peer that flooded the revocation, saw dying; nothing if no rank was at fault.
  virtual std::optional<int> lost_peer() const = 0;

  // The ranks for whose heartbeats this rank has waited in vain, if that ended the communicator.
  virtual std::vector<int> silent_peers() const { return {}; }
};

// The first element of slice `rank` when `count` elements are cut into `size` slices, aligned to 64 bytes of 4-byte elements.
size_t SliceBegin(size_t count, int size, int rank);

// One rank of the generation to build.
struct Peer {
  std::string id;       // worker id, for messages: "w-2"
  std::string address;  // what its Backend::address() returned
};

struct ConnectRequest {
  uint64_t generation = 0;
  int rank = 0;
  std::vector<Peer> peers;  // in rank order; peers[rank] is this process
  Duration connect_timeout = std::chrono::seconds(10);
  Duration operation_timeout =
      std::chrono::seconds(60);  // without data from a peer inside an operation
  // A transport between machines sends every peer ten heartbeats in this time, whatever the process is busy with, and calls a peer
  // lost that is needed and has been silent for longer. Zero: no heartbeats. Equal on all ranks.
  Duration heartbeat_timeout{};
  // Filled in if Connect() ends with kDeadlineExceeded: the ranks that are missing. May be null.
  std::vector<int>* missing = nullptr;
};

// A process's end of a transport: its listener and its registered memory, alive across generations.
//
// Threading: safe from any thread.
class Backend {
 public:
  virtual ~Backend() = default;

  // The name users know it by: "inproc", "host", "nccl".
  virtual std::string name() const = 0;

  // How peers reach this process; opaque, at most 512 bytes of printable text.
  virtual std::string address() const = 0;

  // Zeroed memory, aligned to 4096 bytes, that collectives reduce in place without an extra copy. It lives as long as
  // the backend. Errors: kResourceExhausted.
  virtual Result<std::span<std::byte>> Allocate(size_t bytes) = 0;

  // Builds the communicator of a generation with all its peers; blocks until every pair is connected. Runs beside an
  // active communicator (make before break). Errors: kDeadlineExceeded (names the peers that are missing),
  // kUnauthenticated (a peer does not know the job's secret), kCancelled (`stop` was requested).
  virtual Result<std::unique_ptr<Communicator>> Connect(const ConnectRequest& request,
                                                        std::stop_token stop) = 0;
};

}  // namespace muster
