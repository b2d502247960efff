// Follower: what a joiner does while the members train on: it takes strips of their state from all of them (donation.h), and brings
// each forward by the records that follow, until the members switch to the generation that it joins.
//
// Threading: one thread, while no other uses the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/base/status.h"
#include "runtime/train/catch_up_wire.h"
#include "runtime/train/step_engine.h"

namespace muster {

// What following has brought.
struct Followed {
  bool whole = false;     // the state is whole, and where the members have switched
  bool plain = false;     // the members have chosen a copy from the start
  bool too_slow = false;  // or had to choose it
  uint64_t rounds = 0;
  uint64_t bytes = 0;        // received
  double apply_seconds = 0;  // the longest of a round: receiving and applying it
  double step_seconds = 0;   // of the members
};

class Follower {
 public:
  // `donors` by rank. Calls `lose` before it first changes the engine's state, of which it uses nothing.
  Follower(Communicator& communicator, StepEngine& engine, std::span<const int> donors,
           std::function<void()> lose);

  // Until the members have switched, or have said that they will copy the state; who says so at once leaves the state as it is.
  // However it ends, the pages of the state say what they hold. Errors: those of Communicator; kInvalidArgument (a round that makes no sense), kDataLoss (a damaged strip).
  Result<Followed> Run();

 private:
  // What comes from one donor.
  struct Stream {
    int donor = 0;
    StepEngine::Record record;
    std::vector<size_t> strips = {};  // all that it gives
    size_t held = 0;                  // of them, from the first
    bool ended = false;
    RoundHeader header = {};
    std::vector<std::byte> packed = {};  // strips of this round
    std::vector<Hash128> hashes = {};
  };
  Status Round();
  Status Check(const Stream& stream) const;
  void Begin();
  void Expect(Stream& stream, std::vector<ReceiveFrom>& receives);
  Status Apply(Stream& stream);
  bool AllEnded() const;
  Status Conclude();

  Communicator& communicator_;
  StepEngine& engine_;
  const std::function<void()> lose_;
  std::vector<Stream> streams_;
  std::vector<uint64_t> positions_;  // of each strip; UINT64_MAX: not held
  bool begun_ = false;               // the state holds nothing but strips
  Followed followed_;
};

}  // namespace muster
