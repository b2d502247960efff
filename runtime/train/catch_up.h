// CatchUp: how a joiner gets the state before it joins, so that nobody stops for it. It runs on the communicator of a planned
// generation while the one before it trains on: members give (donation.h), joiners follow (follower.h).
//
// Threading: Run() from the thread that builds generations; the others from the trainer's.
// Ownership: engine and backend outlive it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/base/status.h"
#include "runtime/train/donation.h"
#include "runtime/train/environment.h"
#include "runtime/train/follower.h"
#include "runtime/train/step_engine.h"

namespace muster {

class CatchUp {
 public:
  // `lose` and `adopt` tell the trainer, which waits meanwhile, that its state is no state any more, and that it is whole again.
  // `notice` is for users.
  struct Callbacks {
    std::function<void()> lose;
    std::function<void()> adopt;
    std::function<void(const std::string& kind, const std::string& message)> notice;
  };
  CatchUp(StepEngine& engine, Backend& backend, JoinMode mode, Callbacks callbacks);

  // Called when the generation may be entered or voted for, with the ranks of those who take steps meanwhile, ascending. All of its
  // members are told the same; none: nobody does.
  using Ready = std::function<void(const std::vector<int>& veterans)>;
  // `trains_in`: the generation that this process takes steps in, or 0. Calls `ready`;
  // returns when its communicator is not needed here any more. What donors send and joiners compute is done at low priority: on a machine
  // that is full of work the members' steps come first. Errors: those of Donation and Follower.
  Status Run(Communicator& communicator, uint64_t trains_in, const Ready& ready,
             std::stop_token stop);

  // The trainer has applied an outcome that took `step_seconds`, and by it switches to generation `next`, if not 0. Errors: those of the engine.
  Status AfterOutcome(double step_seconds, uint64_t next);
  // Blocks until Run() does not use the communicator of `generation` any more.
  void AwaitEnd(uint64_t generation);

 private:
  Status Give(Communicator& communicator, const std::vector<int>& donors, std::vector<int> joiners,
              const std::function<void()>& ready, std::stop_token stop);
  Status Follow(Communicator& communicator, const std::vector<int>& donors, std::stop_token stop);
  void Tell(const Followed& followed);
  bool IsPlain() const;
  std::shared_ptr<Donation> donation();

  StepEngine& engine_;
  const JoinMode mode_;
  const Callbacks callbacks_;
  DonorMemory memory_;

  std::mutex mutex_;  // guards donation_
  std::shared_ptr<Donation> donation_;
};

}  // namespace muster
