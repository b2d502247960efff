#include "tests/scenarios/fabric.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace muster::scenario {

void Meeting::CancelConnect(int rank) {
  connecting_.erase(rank);
  gone_.insert(rank);  // it never comes back to this generation
}

bool Meeting::CanComplete(int rank) const {
  for (int peer = 0; peer < static_cast<int>(generation_.members.size()); ++peer) {
    if (peer != rank && IsMissing(peer)) return false;
  }
  return true;
}

bool Meeting::IsMissing(int peer) const {
  return gone_.contains(peer) || (!connecting_.contains(peer) && !built_.contains(peer));
}

void Meeting::Connected(int rank) {
  connecting_.erase(rank);
  built_.insert(rank);
}

std::optional<std::string> Meeting::Contribute(int rank, size_t index, const std::string& operation,
                                               Contribution mine) {
  if (operations_.size() <= index) operations_.resize(index + 1);
  Operation& op = operations_[index];
  if (op.present.empty()) {
    op.name = operation;
    op.contributions.resize(generation_.members.size());
  } else if (op.name != operation) {
    return fmt::format("in operation {} of generation {}, {} is in {} and others are in {}", index,
                       generation_.number, Name(rank), operation, op.name);
  }
  op.present.insert(rank);
  op.contributions[static_cast<size_t>(rank)] = std::move(mine);
  // Who begins an operation has what came of the one before.
  if (index > 0 && Complete(index)) {
    operations_[index - 1].contributions = {};
    operations_[index - 1].max_vote = {};
  }
  return std::nullopt;
}

const std::vector<int32_t>& Meeting::MaxVote(size_t index) {
  Operation& op = operations_[index];
  if (!op.max_vote.empty()) return op.max_vote;
  op.max_vote = op.contributions.front().vote;
  for (const Contribution& each : op.contributions) {
    std::ranges::transform(each.vote, op.max_vote, op.max_vote.begin(),
                           [](int32_t a, int32_t b) { return std::max(a, b); });
  }
  return op.max_vote;
}

bool Meeting::Complete(size_t index) const {
  return index < operations_.size() &&
         operations_[index].present.size() == generation_.members.size();
}

bool Meeting::Doomed(size_t index) {
  if (broken_) return true;
  for (const int peer : gone_) {
    if (index < operations_.size() && operations_[index].present.contains(peer)) continue;
    Break(fmt::format("peer {} ({}) closed the connection", peer, Name(peer)), peer);
    return true;
  }
  return false;
}

void Meeting::Leave(int rank) { gone_.insert(rank); }

void Meeting::Die(int rank) {
  connecting_.erase(rank);
  gone_.insert(rank);
  if (built_.contains(rank))
    Break(fmt::format("peer {} ({}) closed the connection", rank, Name(rank)), rank);
}

void Meeting::Break(const std::string& reason, int lost) {
  if (broken_) return;
  broken_ = true;
  reason_ = reason;
  lost_ = lost;
}

std::string Meeting::lost() const { return lost_ < 0 ? "" : Name(lost_); }

std::string Meeting::Name(int rank) const {
  return generation_.members[static_cast<size_t>(rank)].worker;
}

void Endpoint::Revoke(const std::string& reason) {
  revoked_ = true;
  meeting_->Break(reason, -1);
}

std::optional<std::string> Endpoint::Begin(const std::string& operation, Contribution mine,
                                           TimePoint now) {
  begun_at_ = now;
  dead_ = revoked_;
  return meeting_->Contribute(rank_, next_++, operation, std::move(mine));
}

}  // namespace muster::scenario
