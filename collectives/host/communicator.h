// HostCommunicator: the operations, each a few messages over the mesh.
//
// Every rank exchanges directly with every other. An all-reduce is a reduce-scatter (rank r combines slice r of all inputs in
// rank order) and an all-gather of the slices, cut into chunks that flow through both while they are hot in the cache.
//
// Invariant of the memory that peers read in place: rank r writes slice r, which no peer ever reads as input; and it overwrites
// chunk c of another slice p only with the result that p has announced, that is, after p has read r's input of that chunk.
// An operation returns when no peer reads its memory any more.
//
// Threading: as Communicator.
#pragma once

#include <memory>

#include "collectives/communicator.h"
#include "collectives/host/mesh.h"

namespace muster::host {

class HostCommunicator : public Communicator {
 public:
  HostCommunicator(const ConnectRequest& request, size_t chunk_bytes, std::unique_ptr<Mesh> mesh);

  int rank() const override { return rank_; }
  int size() const override { return mesh_->size(); }
  uint64_t generation() const override { return generation_; }

  Status AllReduce(std::span<float> values, ReduceOp op) override;
  Status AllReduce(std::span<int32_t> values, ReduceOp op) override;
  Status AllReduce(std::span<int64_t> values, ReduceOp op) override;
  Status ReduceScatter(std::span<float> values, ReduceOp op) override;
  Status ReduceScatter(std::span<int32_t> values, ReduceOp op) override;
  Status ReduceScatter(std::span<int64_t> values, ReduceOp op) override;
  Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override;
  Status Broadcast(std::span<std::byte> data, int root) override;
  using Communicator::Barrier;
  Status Barrier(const std::function<Result<bool>()>& entered) override;
  Status Exchange(std::span<const SendTo> sends, std::span<const ReceiveFrom> receives) override;

  void Revoke(const std::string& reason) override { mesh_->Revoke(reason); }
  bool revoked() const override { return mesh_->revoked(); }
  std::string revoke_reason() const override { return mesh_->revoke_reason(); }
  std::optional<int> lost_peer() const override { return mesh_->lost_peer(); }
  std::vector<int> silent_peers() const override { return mesh_->silent_peers(); }

 private:
  template <typename T>
  Status Reduce(std::span<T> values, ReduceOp op, bool gather);
  template <typename T>
  Status ReduceSmall(const Operation& operation, std::span<T> values);

  Status Operate(const Operation& operation, const std::function<void()>& post);
  // Posts `data` as one message per chunk; at least one, so that sizes are compared even if there is nothing to say.
  void PostSend(int peer, const Operation& operation, std::span<const std::byte> data);
  void PostReceive(int peer, const Operation& operation, std::span<std::byte> data);
  // The sends to and receives from this rank itself. Errors: kInvalidArgument.
  Status ExchangeWithSelf(std::span<const SendTo> sends, std::span<const ReceiveFrom> receives);

  // Calls `act` for every other rank, each rank beginning with its successor, so that they do not all meet at one.
  template <typename Act>
  void ForEachPeer(Act act) {
    for (int i = 1; i < size(); ++i) act((rank_ + i) % size());
  }

  const int rank_;
  const uint64_t generation_;
  const size_t chunk_bytes_;
  const std::unique_ptr<Mesh> mesh_;
};

}  // namespace muster::host
