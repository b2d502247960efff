#include "collectives/nccl/communicator.h"

namespace muster::nccl {

namespace {

// Of the operation timeout: before the peers, who are waiting, are blamed for what this rank's GPU does not end.
constexpr double kOwnShare = 0.9;

}  // namespace

NcclCommunicator::NcclCommunicator(std::unique_ptr<Communicator> host, std::unique_ptr<Ring> ring,
                                   std::shared_ptr<Undertaker> undertaker, cuda::Device& device,
                                   Duration operation_timeout)
    : host_(std::move(host)),
      ring_(std::move(ring)),
      alone_(host_->size() == 1),
      undertaker_(std::move(undertaker)),
      device_(device),
      operation_timeout_(std::chrono::duration_cast<Duration>(kOwnShare * operation_timeout)) {}

NcclCommunicator::~NcclCommunicator() {
  if (ring_) undertaker_->Bury(std::move(ring_));
}

Status NcclCommunicator::Sum(cuda::DevicePointer memory, size_t count, Lane lane,
                             cuda::Stream stream) {
  if (alone_) return {};
  if (!ring_) return Aborted();
  const GoOn go_on = UntilRevoked("NCCL has not queued a sum");
  Status queued = go_on();
  if (queued) queued = ring_->Sum(memory, count, lane, stream);
  if (queued) queued = ring_->AwaitReady(go_on);
  return queued ? queued : End(queued.error());
}

Status NcclCommunicator::Await(cuda::Event event) {
  if (!alone_ && !ring_) return Aborted();
  const GoOn go_on = UntilRevoked("the sums of " + device_.facts().ToString() + " have not ended");
  Status done = host_->Barrier([&]() -> Result<bool> {
    MUSTER_ASSIGN(const bool is_done, device_.IsDone(event));
    if (is_done) return true;
    if (ring_) MUSTER_TRY(ring_->Ready());
    MUSTER_TRY(go_on());
    return false;
  });
  if (done) return done;
  done = End(done.error());
  undertaker_->AwaitQuiet(event);
  return done;
}

GoOn NcclCommunicator::UntilRevoked(std::string what) const {
  return [this, what = std::move(what),
          deadline = MonotonicNow() + operation_timeout_]() -> Status {
    if (host_->revoked()) return Aborted();
    if (MonotonicNow() < deadline) return {};
    return Err(Code::kDeadlineExceeded, "{} within {:.1f} s", what, Seconds(operation_timeout_));
  };
}

// Nothing that was queued here goes on afterwards. What NCCL or a device says is the end of the generation, as a lost peer is.
Status NcclCommunicator::End(const Error& error) {
  host_->Revoke(error.message);
  if (ring_) undertaker_->End(std::move(ring_));
  if (error.code != Code::kUnavailable) return tl::unexpected(error);
  return Aborted();
}

tl::unexpected<Error> NcclCommunicator::Aborted() const {
  return Err(Code::kAborted, "generation {} was revoked: {}", generation(), revoke_reason());
}

}  // namespace muster::nccl
