// Donation: what one member gives to the joiners of a planned generation while it trains on. After each outcome the trainer hands over
// a round (catch_up_wire.h): the sums of the step, by exchanging buffers, and copies of some strips. Another thread sends it.
//
// The trainer never waits for a joiner. What it copies takes at most kShare of a step, one strip at least, and only one round
// with copies is on its way at a time. When kRoundsInFlight are, the joiner is too slow: it gets the state by a copy when it is in.
//
// Threading: Give() and AwaitEnd() from the trainer's thread, Serve() from one other. Ownership: everything given outlives it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/train/catch_up_wire.h"
#include "runtime/train/step_engine.h"

namespace muster {

// Memory of the backend that donations use one after the other: it can be reduced in place, and never goes back to the system.
//
// Threading: one thread at a time.
class DonorMemory {
 public:
  DonorMemory(Backend& backend, StepEngine& engine);
  // Allocates what is missing, and touches it, so that the trainer finds it mapped; at low priority. Errors: kResourceExhausted.
  Status Prepare();

  std::vector<std::span<std::byte>> spares;  // for sums
  std::span<std::byte> strips;               // for copies of strips, at least one

 private:
  Status Allocate();

  Backend& backend_;
  StepEngine& engine_;
  const size_t sums_bytes_;
  const size_t strips_bytes_;
  std::vector<std::shared_ptr<void>> pins_;  // of spares
};

class Donation {
 public:
  static constexpr double kShare = 0.02;
  static constexpr size_t kRoundsInFlight = 3;
  static constexpr auto kLimit =
      std::chrono::seconds(20);  // for a joiner to catch up after the last strips

  // This member is the `index`-th of `donors`.
  Donation(Communicator& communicator, StepEngine& engine, DonorMemory& memory,
           std::vector<int> joiners, size_t index, size_t donors);

  uint64_t generation() const { return communicator_.generation(); }

  // The trainer has applied an outcome; with `last`, it has switched to the generation of the joiners by it. Errors: those of the engine.
  Status Give(double step_seconds, bool last);
  // Blocks until Serve() has returned, which it does soon after the last round: its waits are those of the communicator.
  void AwaitEnd();

  // Sends rounds until the last one, out of memory that has been prepared. Calls `ready` once, when every joiner has all strips of this donor and keeps up, or will get
  // the state by a copy. Errors: those of Communicator; kAborted (`stop`).
  Status Serve(const std::function<void()>& ready, std::stop_token stop);
  // The same for a state so small that a copy is better.
  Status ServePlain(const std::function<void()>& ready);

 private:
  struct Round {
    RoundHeader header = {};
    StepEngine::Record record;
    StepMath::HandedOut given = {};  // sums; empty: none
    size_t first = 0;                // of the strips added, in own_
  };
  Status AddStrips(Round& round, double seconds);
  Status Send(const Round& round);
  Status Tell(RoundHeader::Kind kind);
  Status Rounds(const std::function<void()>& ready, const std::stop_token& stop);
  void TakeBack(const Round& round);
  void End();

  Communicator& communicator_;
  StepEngine& engine_;
  DonorMemory& memory_;
  const std::vector<int> joiners_;
  std::vector<size_t> own_;  // strips that this member gives

  std::mutex mutex_;  // guards all below
  std::condition_variable_any changed_;
  bool too_slow_ = false;
  bool ended_ = false;
  size_t given_ = 0;                              // of own_
  TimePoint deadline_ = MonotonicNow() + kLimit;  // for more of them, or to be caught up with
  double step_seconds_ = 0;
  std::deque<Round> rounds_;  // the first is being sent
};

}  // namespace muster
