// MemberCore: what one member does about generations: build, vote, switch, revoke, rejoin. Pure: orders and happenings go in,
// actions come out, with a reason.
//
//   none --enter--> active(g) --vote says all have prepared h--> switching --enter--> active(h)
//    ^                 | lost, revoked, or an urgent order
//    |                 v
//    +--- rejoin --- broken(g) --enter (urgent order h is built)--> active(h)
//
// Invariants: it never enters a generation with a number at or below one it has been in, or has been told is dead; it
// builds at most one generation at a time, the newest; after it has voted for a generation it keeps it until the vote is
// decided (the shell holds the one it voted for).
//
// Threading: none; the shell serialises calls.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/core/protocol.h"

namespace muster {

// --- Actions ---
struct BuildGeneration {
  Generation generation;
  bool planned = false;  // the others train on until all have built it: joiners catch up meanwhile
};                       // connect in the background, then OnBuilt / OnBuildFailed
struct DiscardBuild {
  uint64_t number = 0;
};  // stop building it, or throw away what was built
struct RevokeActive {
  std::string reason;
};  // end the active communicator at once
struct EnterGeneration {
  uint64_t number = 0;
};                   // the trainer may enter it now: nothing to vote on
struct SayHello {};  // register again, as a joiner
struct Leave {
  std::string reason;
};  // end the program with exit code 0
struct SendReport {
  Report report;
};

using MemberAction = std::variant<BuildGeneration, DiscardBuild, RevokeActive, EnterGeneration,
                                  SayHello, Leave, SendReport>;

class MemberCore {
 public:
  explicit MemberCore(std::string worker) : worker_(std::move(worker)) {}

  std::vector<MemberAction> OnOrder(const Order& order);
  std::vector<MemberAction> OnBuilt(uint64_t number);
  // `unreachable`: the members that did not connect.
  std::vector<MemberAction> OnBuildFailed(uint64_t number, const std::string& reason,
                                          std::vector<std::string> unreachable = {});
  // The communicator of `generation` is dead; `lost` is the worker seen dying, or empty; `silent` those that were waited for in
  // vain.
  std::vector<MemberAction> OnBroken(uint64_t generation, const std::string& reason,
                                     const std::string& lost, std::vector<std::string> silent = {});
  // The trainer takes the communicator of `number` and leaves what was before; it waits there for the others. False if it must
  // not: a vote may decide for a generation after this worker has been told to rejoin, or to enter a newer one without a vote.
  [[nodiscard]] bool OnEntering(uint64_t number);
  // All members are there and hold the same state: steps can be taken.
  void OnEntered(uint64_t number);
  // A vote has decided for a generation of which this worker is not a member. A newer one that has it may be ordered already.
  std::vector<MemberAction> OnLeft();

  uint64_t active() const { return active_; }
  bool broken() const { return broken_; }
  // What to vote for: the newest generation that is built (or that does without this worker); 0 if none.
  uint64_t prepared() const { return broken_ || active_ == 0 ? 0 : prepared_; }
  // The generation it will enter without a vote, or waits in for the others; 0 if none.
  uint64_t entering() const;
  uint64_t revoked() const { return revoked_; }
  bool stop_requested() const { return stop_requested_; }
  bool released() const { return released_; }
  // The membership ordered last, whatever came of it.
  const Generation& ordered() const { return ordered_; }
  bool ordered_has_me() const { return ordered_.RankOf(worker_) >= 0; }

 private:
  std::vector<MemberAction> OnGeneration(const Order& order);
  std::vector<MemberAction> OnRejoin(const std::string& reason);
  void DropOrdered(std::vector<MemberAction>& actions);
  SendReport SayBuildFailed(uint64_t number, const std::string& reason,
                            std::vector<std::string> unreachable);

  const std::string worker_;
  uint64_t active_ = 0;
  uint64_t highest_seen_ = 0;
  uint64_t revoked_ = 0;   // highest generation known to be dead
  bool broken_ = false;    // the active generation is dead
  bool entered_ = false;   // all members of the active generation were there
  bool joining_ = false;   // waits in a generation that the others may never switch to
  bool urgent_ = false;    // the ordered generation needs no vote
  uint64_t prepared_ = 0;  // == ordered_.number once built
  Generation ordered_;     // number 0: none pending
  Report failure_;         // of the last generation that could not be built; 0: none
  bool stop_requested_ = false;
  bool released_ = false;
};

}  // namespace muster
