#include "collectives/nccl/nccl.h"

#include <utility>
#include <vector>

#include "collectives/nccl/communicator.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

namespace muster {
namespace nccl {
namespace {

// Before the address of the host backend, so that a process without NCCL is told from one with it.
const std::string kAddressPrefix = "nccl+";

class NcclBackend : public Backend {
 public:
  NcclBackend(const Library& library, std::unique_ptr<Backend> host, cuda::Device& device,
              const NcclOptions& options)
      : library_(library),
        host_(std::move(host)),
        device_(device),
        options_(options),
        undertaker_(std::make_shared<Undertaker>(device, options.abort_timeout, options.stuck)) {}

  // For the sum that warms a ring up. Errors: kResourceExhausted.
  Status Prepare() {
    MUSTER_ASSIGN(stream_, device_.MakeStream());
    MUSTER_ASSIGN(warm_, device_.MakeEvent());
    MUSTER_ASSIGN(memory_, device_.Allocate(sizeof(int32_t)));
    return device_.Zero(memory_, sizeof(int32_t), stream_);
  }

  std::string name() const override { return "nccl"; }
  std::string address() const override { return kAddressPrefix + host_->address(); }
  Result<std::span<std::byte>> Allocate(size_t bytes) override { return host_->Allocate(bytes); }

  Result<std::unique_ptr<Communicator>> Connect(const ConnectRequest& request,
                                                std::stop_token stop) override {
    MUSTER_TRY(device_.Use());
    ConnectRequest of_host = request;
    for (Peer& peer : of_host.peers) {
      if (!peer.address.starts_with(kAddressPrefix)) {
        return WithHint(
            Err(Code::kFailedPrecondition, "{} has no NCCL, but {} has", peer.id,
                request.peers[static_cast<size_t>(request.rank)].id),
            "all workers of a job need the same image and devices; or use --collectives host");
      }
      peer.address.erase(0, kAddressPrefix.size());
    }
    MUSTER_ASSIGN(std::unique_ptr<Communicator> host, host_->Connect(of_host, stop));
    const std::stop_callback revoke(stop, [connected = host.get()] {
      connected->Revoke("another generation is being prepared");
    });
    MUSTER_ASSIGN(const std::vector<Member> members, MeetMembers(*host, request));
    const Placement placement = PlacementOf(members, request);
    if (placement == Placement::kRefused) return host;
    MUSTER_ASSIGN(std::unique_ptr<Ring> ring,
                  BuildRing(*host, request, placement == Placement::kShared ? kSharedCtas : 0));
    return std::make_unique<NcclCommunicator>(std::move(host), std::move(ring), undertaker_,
                                              device_, request.operation_timeout);
  }

 private:
  // What a rank says of itself.
  struct Member {
    int version = 0;
    int shares_gpus = 0;
    cuda::Uuid gpu;
  };

  // By rank. Errors: those of Communicator; kFailedPrecondition (versions).
  Result<std::vector<Member>> MeetMembers(Communicator& host, const ConnectRequest& request) {
    const Member mine{library_.version(), library_.SharesGpus() ? 1 : 0, device_.facts().uuid};
    std::vector<Member> all(static_cast<size_t>(host.size()));
    MUSTER_TRY(host.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all))));
    for (size_t rank = 0; rank < all.size(); ++rank) {
      if (all[rank].version == all.front().version) continue;
      return WithHint(Err(Code::kFailedPrecondition, "{} has NCCL {}, but {} has {}",
                          request.peers[rank].id, VersionText(all[rank].version),
                          request.peers.front().id, VersionText(all.front().version)),
                      "all workers of a job need the same image");
    }
    return all;
  }

  enum class Placement { kOneEach, kShared, kRefused };

  // Of ranks on GPUs; kRefused: NCCL would not take them, and their sums go through the host. All of them see the same members.
  static Placement PlacementOf(std::span<const Member> members, const ConnectRequest& request) {
    Placement placement = Placement::kOneEach;
    for (size_t second = 1; second < members.size(); ++second) {
      for (size_t first = 0; first < second; ++first) {
        if (members[first].gpu != members[second].gpu) continue;
        placement = Placement::kShared;
        if (members[first].shares_gpus != 0 && members[second].shares_gpus != 0) continue;
        log::warn(
            "generation={} collectives=host reason=\"{} and {} are on one GPU, and NCCL wants one "
            "for each; from 2.30 on it shares them where NCCL_MULTI_RANK_GPU_ENABLE=1\"",
            request.generation, request.peers[first].id, request.peers[second].id);
        return Placement::kRefused;
      }
    }
    return placement;
  }

  // Null for a world of one. Whatever fails on one rank revokes, and so ends the others with its reason; they watch each other all the
  // time. Errors: those of Communicator::Barrier.
  Result<std::unique_ptr<Ring>> BuildRing(Communicator& host, const ConnectRequest& request,
                                          int max_ctas) {
    if (host.size() == 1) return nullptr;
    const TimePoint start = MonotonicNow();
    MUSTER_ASSIGN(std::vector<UniqueId> ids, AgreeOnIds(host, request));
    auto begun = Ring::Begin(library_, ids, host.rank(), host.size(), max_ctas);
    if (!begun) {
      host.Revoke(begun.error().message);
      return begun;
    }
    std::unique_ptr<Ring> ring = std::move(*begun);
    if (Status warm = WarmUp(host, *ring, start + options_.init_timeout); !warm) {
      host.Revoke(warm.error().message);
      undertaker_->End(std::move(ring));
      undertaker_->AwaitQuiet(warm_);
      return tl::unexpected(warm.error());
    }
    log::info("generation={} rank={} nccl_ms={:.1f} ids={}", host.generation(), host.rank(),
              Milliseconds(MonotonicNow() - start), ids.size());
    return ring;
  }

  // One of every kRanksPerId-th rank, in the order of ranks.
  Result<std::vector<UniqueId>> AgreeOnIds(Communicator& host, const ConnectRequest& request) {
    struct Made {
      int failed = 0;
      UniqueId id;  // of a rank that has one
    };
    Made mine;
    if (host.rank() % kRanksPerId == 0) mine.failed = library_.get_unique_id.call(&mine.id);
    std::vector<Made> all(static_cast<size_t>(host.size()));
    MUSTER_TRY(host.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all))));
    std::vector<UniqueId> ids;
    for (size_t rank = 0; rank < all.size(); ++rank) {
      const std::string& id = request.peers[rank].id;
      if (all[rank].failed != kSuccess) {
        return Err(Code::kUnavailable, "{}: {}", id,
                   library_.TextOf(library_.get_unique_id.symbol, all[rank].failed, nullptr));
      }
      if (rank % kRanksPerId == 0) ids.push_back(all[rank].id);
    }
    return ids;
  }

  // NCCL connects at the first collective, which is not to be one of a step.
  Status WarmUp(Communicator& host, Ring& ring, TimePoint deadline) {
    const auto in_time = [&](bool done) -> Result<bool> {
      if (done || MonotonicNow() < deadline) return done;
      return Err(Code::kDeadlineExceeded, "NCCL was not initialised within {:.1f} s",
                 Seconds(options_.init_timeout));
    };
    const auto ready = [&]() -> Result<bool> {
      MUSTER_ASSIGN(const bool is_ready, ring.Ready());
      return in_time(is_ready);
    };
    MUSTER_TRY(host.Barrier(ready));
    MUSTER_TRY(ring.Sum(memory_, 1, DeviceCollectives::Lane::kInt32, stream_));
    MUSTER_TRY(host.Barrier(ready));
    MUSTER_TRY(device_.Record(warm_, stream_));
    return host.Barrier([&]() -> Result<bool> {
      MUSTER_TRY(ring.Ready());
      MUSTER_ASSIGN(const bool done, device_.IsDone(warm_));
      return in_time(done);
    });
  }

  const Library& library_;
  const std::unique_ptr<Backend> host_;
  cuda::Device& device_;
  const NcclOptions options_;
  const std::shared_ptr<Undertaker> undertaker_;

  // Of the one Connect() at a time.
  cuda::Stream stream_ = nullptr;
  cuda::Event warm_ = nullptr;
  cuda::DevicePointer memory_ = 0;
};

Status Encrypt(const Library& library, const std::string& key) {
  if (library.set_encryption.call == nullptr) {
    return WithHint(Err(Code::kFailedPrecondition, "NCCL {} cannot encrypt its connections",
                        VersionText(library.version())),
                    "that needs 2.32, built with TLS");
  }
  const EncryptionConfig config{.key = key.c_str()};
  const int code = library.set_encryption.call(&config);
  if (code == kSuccess) return {};
  return WithHint(Err(Code::kFailedPrecondition, "NCCL {} does not encrypt its connections: {}",
                      VersionText(library.version()),
                      library.TextOf(library.set_encryption.symbol, code, nullptr)),
                  "it must be built with TLS, and the key have 32 characters");
}

}  // namespace
}  // namespace nccl

Result<std::unique_ptr<Backend>> CreateNcclBackend(std::unique_ptr<Backend> host,
                                                   cuda::Device& device,
                                                   const NcclOptions& options) {
  MUSTER_ASSIGN(const nccl::Library* library, nccl::Library::Load());
  if (!options.pre_shared_key.empty()) {
    MUSTER_TRY(nccl::Encrypt(*library, options.pre_shared_key));
  }
  auto backend = std::make_unique<nccl::NcclBackend>(*library, std::move(host), device, options);
  MUSTER_TRY(backend->Prepare());
  return backend;
}

}  // namespace muster
