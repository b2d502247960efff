#include "launcher/client/client.h"

namespace muster {

Result<std::unique_ptr<CoordinatorClient>> CoordinatorClient::Open(const JobFolder& folder) {
  MUSTER_ASSIGN(const JobSpec spec, folder.ReadSpec());
  MUSTER_ASSIGN(std::string secret, folder.ReadSecret());
  return std::make_unique<CoordinatorClient>(folder, spec.id, std::move(secret));
}

Result<std::shared_ptr<Stub>> CoordinatorClient::Connect() {
  MUSTER_ASSIGN(const CoordinatorAddress coordinator, folder_.ReadCoordinator());
  const std::lock_guard lock(mutex_);
  if (stub_ == nullptr || address_ != coordinator.address) {
    address_ = coordinator.address;
    stub_ = v1::Rendezvous::NewStub(OpenChannel(address_));
  }
  return stub_;
}

void CoordinatorClient::Disconnect() {
  const std::lock_guard lock(mutex_);
  stub_.reset();
}

void Cancellation::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
  changed_.notify_all();
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

void Cancellation::Pause(Duration duration) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, duration, [&] { return cancelled_; });
}

void Cancellation::Enter(grpc::ClientContext* context) {
  const std::lock_guard lock(mutex_);
  context_ = context;
  if (cancelled_) context->TryCancel();
}

void Cancellation::Leave() {
  const std::lock_guard lock(mutex_);
  context_ = nullptr;
}

}  // namespace muster
