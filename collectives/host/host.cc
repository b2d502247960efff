#include "collectives/host/host.h"

#include "collectives/host/arena.h"
#include "collectives/host/communicator.h"
#include "collectives/host/connect.h"
#include "collectives/host/link.h"
#include "collectives/host/listener.h"
#include "collectives/host/mesh.h"

namespace muster {
namespace host {
namespace {

constexpr size_t kMinSecret = 16;
constexpr size_t kMaxText = 256;
constexpr size_t kMinChunk = 4096;
constexpr size_t kMaxChunk = size_t{64} << 20;

class HostBackend : public Backend {
 public:
  HostBackend(size_t chunk_bytes, std::shared_ptr<const Credentials> credentials,
              std::shared_ptr<Listener> listener)
      : chunk_bytes_(chunk_bytes),
        credentials_(std::move(credentials)),
        listener_(std::move(listener)) {}

  std::string name() const override { return "host"; }
  std::string address() const override { return listener_->address().ToString(); }
  Result<std::span<std::byte>> Allocate(size_t bytes) override { return arena_->Allocate(bytes); }

  Result<std::unique_ptr<Communicator>> Connect(const ConnectRequest& request,
                                                std::stop_token stop) override {
    if (request.rank < 0 || static_cast<size_t>(request.rank) >= request.peers.size()) {
      return Err(Code::kInvalidArgument, "rank {} of {} peers", request.rank, request.peers.size());
    }
    MUSTER_ASSIGN(auto connections,
                  ConnectPeers(request, *listener_, credentials_, std::move(stop)));
    std::vector<std::unique_ptr<Link>> links(request.peers.size());
    for (size_t i = 0; i < links.size(); ++i) {
      if (static_cast<int>(i) == request.rank) continue;
      links[i] = std::make_unique<Link>(std::move(connections[i]), request.peers[i].id,
                                        static_cast<int>(i), chunk_bytes_, arena_);
    }
    MUSTER_ASSIGN(Wakeup wakeup, Wakeup::Create());
    auto mesh = std::make_unique<Mesh>(request, std::move(links), listener_, std::move(wakeup));
    return std::make_unique<HostCommunicator>(request, chunk_bytes_, std::move(mesh));
  }

 private:
  const size_t chunk_bytes_;
  const std::shared_ptr<const Credentials> credentials_;
  // Communicators keep these alive too.
  const std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
  const std::shared_ptr<Listener> listener_;
};

}  // namespace
}  // namespace host

Status HostOptions::Validate() const {
  MUSTER_ASSIGN(const host::SocketAddress address, host::TcpAddress(listen_address, 0));
  if (host::IsUnspecified(address)) {
    return WithHint(
        Err(Code::kInvalidArgument, "listen_address {} names no interface", listen_address),
        "peers connect to this address: use the one they can reach");
  }
  if (job.empty() || job.size() > host::kMaxText) {
    return Err(Code::kInvalidArgument, "job must have 1 to {} bytes, not {}", host::kMaxText,
               job.size());
  }
  if (secret.size() < host::kMinSecret || secret.size() > host::kMaxText) {
    return Err(Code::kInvalidArgument, "secret must have {} to {} bytes, not {}", host::kMinSecret,
               host::kMaxText, secret.size());
  }
  if (chunk_bytes < host::kMinChunk || chunk_bytes > host::kMaxChunk || chunk_bytes % 64 != 0) {
    return Err(Code::kInvalidArgument, "chunk_bytes must be a multiple of 64 from {} to {}, not {}",
               host::kMinChunk, host::kMaxChunk, chunk_bytes);
  }
  return {};
}

Result<std::unique_ptr<Backend>> CreateHostBackend(const HostOptions& options) {
  MUSTER_TRY(options.Validate());
  auto credentials = std::make_shared<host::Credentials>();
  credentials->job = options.job;
  credentials->secret = options.secret;
  credentials->chunk_bytes = options.chunk_bytes;
  if (options.shared_memory) {
    MUSTER_ASSIGN(host::Probe probe, host::Probe::Create());
    credentials->probe = std::make_shared<const host::Probe>(std::move(probe));
  }
  MUSTER_ASSIGN(std::shared_ptr<host::Listener> listener,
                host::Listener::Create(options, credentials));
  return std::make_unique<host::HostBackend>(options.chunk_bytes, std::move(credentials),
                                             std::move(listener));
}

}  // namespace muster
