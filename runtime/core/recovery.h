// Recovery: when a generation is entered, its members tell each other what they hold, and this pure function says who catches up
// from whom. All members compute it from the same facts, so nobody has to be asked.
//
// The rule: the furthest state wins. A member one step behind that still holds that step's reduced gradient needs only
// the outcome of the vote (*redo*); anybody else behind, or without state, pulls pages from all who are at the target
// (*transfer*). If nobody holds state, rank 0 restores a checkpoint or initialises, and the members tell each other again.
//
// Threading: pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muster {

// What one member holds on entry. Trivially copyable: it is all-gathered as bytes.
struct Entry {
  static constexpr uint64_t kNone = UINT64_MAX;
  uint64_t program = 0;    // hash of model, options and job: must be equal on all members
  uint64_t has_state = 0;  // 0 or 1
  uint64_t position =
      0;  // vote outcomes applied to its state: committed steps and raised exponents
  uint64_t reduced_at =
      kNone;  // it holds the whole reduced gradient of the vote at this position, not its outcome
  uint64_t outcome_of = kNone;  // it holds the outcome of the vote at this position
  uint64_t done = 0;            // 1: it has finished, or stopped, at its position
};

struct RecoveryPlan {
  enum class Action { kNone, kInitialize, kWait, kRedo, kTransfer };
  uint64_t target = 0;          // position that all will be at
  bool done = false;            // training has ended at the target
  std::vector<Action> actions;  // per rank
  std::vector<int> donors;      // ranks at the target, which serve the transfers
  int outcome_from = -1;        // rank whose outcome those who redo receive
  std::string reason;

  bool Any(Action action) const;
};

RecoveryPlan PlanRecovery(std::span<const Entry> entries);

// Which donor sends page `index` of the list of pages that a joiner needs: spread over all, shifted so that several
// joiners do not ask the same donor first.
inline int DonorOf(size_t index, int joiner_rank, std::span<const int> donors) {
  return donors[(index + static_cast<size_t>(joiner_rank)) % donors.size()];
}

}  // namespace muster
