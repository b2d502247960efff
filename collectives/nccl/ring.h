// Ring: one NCCL communicator, from its unique ids to its end.
//
// It never blocks (config.blocking = 0): after a call NCCL may be in progress for as long as it likes, and takes no other call until it is
// ready. Whoever waits for that asks `go_on` meanwhile, which says why waiting has no sense any more.
//
// Threading: one thread at a time, the device's. Ownership: library and device outlive it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/nccl/library.h"
#include "runtime/cuda/device.h"

namespace muster::nccl {

// At most so many ranks share a unique id: its process serves all of them one by one.
inline constexpr int kRanksPerId = 128;
// Multiprocessors of a GPU that ranks share, for a collective of one of them: NCCL's own choice is for two of them at most.
inline constexpr int kSharedCtas = 4;

using GoOn = std::function<Status()>;

class Ring {
 public:
  // Begins to make a communicator, whose collectives take at most `max_ctas` multiprocessors (0: as NCCL likes); it is there when
  // Ready() says so. Errors: kUnavailable, with what NCCL says.
  static Result<std::unique_ptr<Ring>> Begin(const Library& library, std::span<UniqueId> ids,
                                             int rank, int size, int max_ctas);
  // The communicator must have been ended.
  ~Ring();

  // Queues the sum of `count` lanes at `memory`, which it has done when it is ready again. Errors: as Begin.
  Status Sum(cuda::DevicePointer memory, size_t count, DeviceCollectives::Lane lane,
             cuda::Stream stream);

  // False while NCCL is in progress. Errors: kUnavailable, what has gone wrong since the last call.
  Result<bool> Ready() const;
  // Blocks until it is ready. Errors: those of Ready and of `go_on`.
  Status AwaitReady(const GoOn& go_on) const;

  // Ends what is being done here, and blocks until the ranks but `lost` have a communicator of their own, with the same settings; this one
  // must be aborted then. Beside the backend, which makes rings anew (decision 0014), it is there to be measured. Errors: kFailedPrecondition
  // (NCCL before 2.27), those of AwaitReady.
  Result<std::unique_ptr<Ring>> Shrink(std::vector<int> lost, const GoOn& go_on);

  // --- Ends; each blocks, perhaps for ever ---
  // Collective, after the last operation; aborts when `go_on` says no.
  void Finish(const GoOn& go_on);
  // Ends what is being done here at once.
  void Abort();

 private:
  Ring(const Library& library, Comm comm) : library_(library), comm_(comm) {}
  Status Accept(const char* symbol, int code) const;
  tl::unexpected<Error> Failed(const char* symbol, int code) const;

  const Library& library_;
  Comm comm_ = nullptr;
};

}  // namespace muster::nccl
