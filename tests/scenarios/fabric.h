// Fabric: the data plane of a simulated job. Communicators as meetings of members, in which an operation is complete when all have
// contributed; whether a member then gets it, or sees the communicator die, is for the caller to say.
//
// It keeps what Communicator (collectives/communicator.h) promises and no more: after a death some members may still complete
// the operation that others see aborted.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/time.h"
#include "runtime/core/protocol.h"
#include "runtime/core/recovery.h"

namespace muster::scenario {

// What a simulated member holds instead of parameters: a hash of all that was applied to it.
struct Weights {
  uint64_t hash = 0;
  uint64_t step = 0;
  uint64_t misses = 0;
  uint64_t position() const { return step + misses; }
  bool operator==(const Weights&) const = default;
};

// What one member brings to an operation; each operation uses the fields it needs.
struct Contribution {
  Entry entry;
  uint64_t sum = 0;           // "reduce": the gradients of its share
  std::vector<int32_t> vote;  // "vote", "redo"
  Weights weights;            // "pages"
};

// The communicator of one generation, seen by all its members.
class Meeting {
 public:
  explicit Meeting(Generation generation) : generation_(std::move(generation)) {}

  const Generation& generation() const { return generation_; }
  int RankOf(const std::string& worker) const { return generation_.RankOf(worker); }

  // --- Connecting ---
  void Connect(int rank) { connecting_.insert(rank); }
  void CancelConnect(int rank);
  bool CanComplete(int rank) const;
  bool IsMissing(int peer) const;  // not connecting
  void Connected(int rank);

  // --- Operations: the `index`th of every member is the same one ---
  // Returns why not, if the members disagree about what operation this is.
  std::optional<std::string> Contribute(int rank, size_t index, const std::string& operation,
                                        Contribution mine);
  bool Complete(size_t index) const;
  // Of a complete one, until all have begun the next and it is complete too.
  const std::vector<Contribution>& Gathered(size_t index) const {
    return operations_[index].contributions;
  }
  // The maximum of all votes, lane by lane.
  const std::vector<int32_t>& MaxVote(size_t index);
  // Somebody who is needed for it has gone, or the meeting was revoked.
  bool Doomed(size_t index);

  // --- Ends ---
  void Leave(
      int rank);  // the member's communicator is destroyed; what it has contributed stays readable
  void Die(int rank);  // its process has ended
  void Break(const std::string& reason, int lost);
  bool broken() const { return broken_; }
  const std::string& reason() const { return reason_; }
  std::string lost() const;  // worker id, or empty

 private:
  struct Operation {
    std::string name;
    std::set<int> present;
    std::vector<Contribution> contributions;
    std::vector<int32_t> max_vote;  // once somebody has asked
  };
  std::string Name(int rank) const;

  const Generation generation_;
  std::set<int> connecting_;
  std::set<int> built_;
  std::set<int> gone_;
  std::deque<Operation> operations_;  // contributions stay where they are
  bool broken_ = false;
  std::string reason_;
  int lost_ = -1;
};

// One member's end of a meeting, with the lifetime of its communicator.
class Endpoint {
 public:
  Endpoint(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}
  ~Endpoint() { meeting_->Leave(rank_); }

  int rank() const { return rank_; }
  Meeting& meeting() { return *meeting_; }

  std::optional<std::string> Begin(const std::string& operation, Contribution mine, TimePoint now);
  // After a revocation here, operations that begin fail at once; one that was under way may still complete.
  void Revoke(const std::string& reason);
  bool complete() const { return !dead_ && meeting_->Complete(next_ - 1); }
  bool doomed() { return dead_ || meeting_->Doomed(next_ - 1); }
  const std::vector<Contribution>& gathered() const { return meeting_->Gathered(next_ - 1); }
  const std::vector<int32_t>& max_vote() { return meeting_->MaxVote(next_ - 1); }
  TimePoint begun_at() const { return begun_at_; }

 private:
  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
  size_t next_ = 0;
  TimePoint begun_at_{};
  bool revoked_ = false;
  bool dead_ = false;  // the operation that began last
};

}  // namespace muster::scenario
