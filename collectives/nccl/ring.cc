#include "collectives/nccl/ring.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/pause.h"

namespace muster::nccl {

namespace {

constexpr auto kPause = std::chrono::microseconds(100);

int TypeOf(DeviceCollectives::Lane lane) {
  switch (lane) {
    case DeviceCollectives::Lane::kFloat32:
      return kFloat32;
    case DeviceCollectives::Lane::kInt32:
      return kInt32;
    case DeviceCollectives::Lane::kInt64:
      return kInt64;
  }
  return -1;
}

}  // namespace

Result<std::unique_ptr<Ring>> Ring::Begin(const Library& library, std::span<UniqueId> ids, int rank,
                                          int size, int max_ctas) {
  Config config;
  config.blocking = 0;
  if (max_ctas > 0) config.max_ctas = max_ctas;
  Comm comm = nullptr;
  const bool scalable = ids.size() > 1 && library.comm_init_rank_scalable.call != nullptr;
  const char* symbol =
      scalable ? library.comm_init_rank_scalable.symbol : library.comm_init_rank_config.symbol;
  const int code =
      scalable ? library.comm_init_rank_scalable.call(
                     &comm, size, rank, static_cast<int>(ids.size()), ids.data(), &config)
               : library.comm_init_rank_config.call(&comm, size, ids.front(), rank, &config);
  std::unique_ptr<Ring> ring(new Ring(library, comm));
  Status begun = ring->Accept(symbol, code);
  if (begun) return ring;
  if (comm != nullptr) ring->Abort();
  return tl::unexpected(begun.error());
}

Ring::~Ring() { MUSTER_CHECK(comm_ == nullptr, "an NCCL communicator was left alone"); }

Status Ring::Sum(cuda::DevicePointer memory, size_t count, DeviceCollectives::Lane lane,
                 cuda::Stream stream) {
  auto* lanes = cuda::PointerOf<void>(memory);
  return Accept(library_.all_reduce.symbol,
                library_.all_reduce.call(lanes, lanes, count, TypeOf(lane), kSum, comm_, stream));
}

Result<bool> Ring::Ready() const {
  int state = kSuccess;
  const auto& ask = library_.comm_get_async_error;
  if (const int code = ask.call(comm_, &state); code != kSuccess) return Failed(ask.symbol, code);
  if (state == kInProgress) return false;
  if (state != kSuccess) return Failed("NCCL", state);
  return true;
}

Status Ring::AwaitReady(const GoOn& go_on) const {
  while (true) {
    MUSTER_ASSIGN(const bool ready, Ready());
    if (ready) return {};
    MUSTER_TRY(go_on());
    PauseFor(kPause, {});
  }
}

Result<std::unique_ptr<Ring>> Ring::Shrink(std::vector<int> lost, const GoOn& go_on) {
  const auto& shrink = library_.comm_shrink;
  if (shrink.call == nullptr) {
    return Err(Code::kFailedPrecondition, "NCCL {} has no {}", VersionText(library_.version()),
               shrink.symbol);
  }
  Comm comm = nullptr;  // until the one here is ready again
  MUSTER_TRY(Accept(shrink.symbol, shrink.call(comm_, lost.data(), static_cast<int>(lost.size()),
                                               &comm, nullptr, kShrinkAbort)));
  MUSTER_TRY(AwaitReady(go_on));
  std::unique_ptr<Ring> ring(new Ring(library_, comm));
  if (Status ready = ring->AwaitReady(go_on); !ready) {
    ring->Abort();
    return tl::unexpected(ready.error());
  }
  return ring;
}

Status Ring::Accept(const char* symbol, int code) const {
  if (code == kSuccess || code == kInProgress) return {};
  return Failed(symbol, code);
}

tl::unexpected<Error> Ring::Failed(const char* symbol, int code) const {
  return Err(Code::kUnavailable, "{}", library_.TextOf(symbol, code, comm_));
}

void Ring::Finish(const GoOn& go_on) {
  Status finished = Accept(library_.comm_finalize.symbol, library_.comm_finalize.call(comm_));
  if (finished) finished = AwaitReady(go_on);
  if (!finished) return Abort();
  (void)library_.comm_destroy.call(std::exchange(comm_, nullptr));
}

void Ring::Abort() { (void)library_.comm_abort.call(std::exchange(comm_, nullptr)); }

}  // namespace muster::nccl
