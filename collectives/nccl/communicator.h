// NcclCommunicator: a host communicator, and a Ring for the memory of GPUs.
//
// Threading: as Communicator. Ownership: the device outlives it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectives/nccl/ring.h"
#include "collectives/nccl/undertaker.h"

namespace muster::nccl {

class NcclCommunicator : public Communicator, public DeviceCollectives {
 public:
  // `ring` may be null: a world of one has nothing to add up.
  NcclCommunicator(std::unique_ptr<Communicator> host, std::unique_ptr<Ring> ring,
                   std::shared_ptr<Undertaker> undertaker, cuda::Device& device,
                   Duration operation_timeout);
  ~NcclCommunicator() override;

  DeviceCollectives* device() override { return this; }
  Status Sum(cuda::DevicePointer memory, size_t count, Lane lane, cuda::Stream stream) override;
  Status Await(cuda::Event event) override;

  // --- The host's ---
  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  uint64_t generation() const override { return host_->generation(); }
  Status AllReduce(std::span<float> values, ReduceOp op) override {
    return host_->AllReduce(values, op);
  }
  Status AllReduce(std::span<int32_t> values, ReduceOp op) override {
    return host_->AllReduce(values, op);
  }
  Status AllReduce(std::span<int64_t> values, ReduceOp op) override {
    return host_->AllReduce(values, op);
  }
  Status ReduceScatter(std::span<float> values, ReduceOp op) override {
    return host_->ReduceScatter(values, op);
  }
  Status ReduceScatter(std::span<int32_t> values, ReduceOp op) override {
    return host_->ReduceScatter(values, op);
  }
  Status ReduceScatter(std::span<int64_t> values, ReduceOp op) override {
    return host_->ReduceScatter(values, op);
  }
  Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    return host_->AllGather(mine, all);
  }
  Status Broadcast(std::span<std::byte> data, int root) override {
    return host_->Broadcast(data, root);
  }
  using Communicator::Barrier;
  Status Barrier(const std::function<Result<bool>()>& entered) override {
    return host_->Barrier(entered);
  }
  Status Exchange(std::span<const SendTo> sends, std::span<const ReceiveFrom> receives) override {
    return host_->Exchange(sends, receives);
  }
  void Revoke(const std::string& reason) override { host_->Revoke(reason); }
  bool revoked() const override { return host_->revoked(); }
  std::string revoke_reason() const override { return host_->revoke_reason(); }
  std::optional<int> lost_peer() const override { return host_->lost_peer(); }
  std::vector<int> silent_peers() const override { return host_->silent_peers(); }

 private:
  GoOn UntilRevoked(std::string what) const;
  Status End(const Error& error);
  tl::unexpected<Error> Aborted() const;

  const std::unique_ptr<Communicator> host_;
  std::unique_ptr<Ring> ring_;  // null: there is none, or it has been ended
  const bool alone_;
  const std::shared_ptr<Undertaker> undertaker_;
  cuda::Device& device_;
  const Duration operation_timeout_;
};

}  // namespace muster::nccl
