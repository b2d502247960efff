// How generations begin and end, and what a change of membership has cost.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/rendezvous/coordinator.h"

namespace muster {

void Coordinator::Propose(std::vector<std::string> members, bool urgent,
                          const std::string& reason) {
  Generation generation{++state_.last_generation, {}};
  for (const std::string& id : members) {
    const Worker& worker = workers_.at(id);
    generation.members.push_back({id, worker.incarnation, worker.hello.address});
  }
  std::vector<std::string> audience = members;
  if (!urgent) {
    for (const Member& member : state_.active->members) {
      if (generation.RankOf(member.worker) < 0) audience.push_back(member.worker);
    }
    state_.proposed = generation;
    proposed_at_ = now_;
  } else {
    state_.active = generation;
    state_.proposed.reset();
    state_.started = true;
    ++state_.generations;
    results_.clear();
  }
  OpenChange(generation, urgent, reason);
  if (urgent) active_dead_ = false;
  sides_.Clear();
  for (const std::string& id : members) {
    Worker& worker = workers_.at(id);
    worker.busy_since = worker.waiting_since = now_;
    worker.lost_by.clear();
    if (urgent) worker.member_as = worker.incarnation;
  }
  PersistState();
  for (const std::string& id : audience) {
    SendTo(id, {Order::Kind::kGeneration, generation, urgent, reason});
  }
  message_ =
      fmt::format("generation {} with {} workers: {}", generation.number, members.size(), reason);
}

void Coordinator::Promote(uint64_t generation) {
  if (!state_.proposed || state_.proposed->number != generation) return;
  state_.active = std::exchange(state_.proposed, std::nullopt);
  ++state_.generations;
  results_.clear();
  active_dead_ = false;
  sides_.Clear();
  for (const Member& member : state_.active->members) {
    workers_[member.worker].member_as = member.incarnation;
    // A restored coordinator may hear of the switch before it has heard of all who took part in it.
    if (!workers_[member.worker].registered) Await(member);
  }
  PersistState();
}

void Coordinator::MarkActiveDead(const std::string& cause, TimePoint first_sign) {
  if (active_dead_) return;
  active_dead_ = true;
  cause_ = cause;
  first_sign_ = first_sign;
  known_ = now_;
}

void Coordinator::DropProposal(const std::string& why) {
  if (!state_.proposed) return;
  Emit("proposal-dropped",
       fmt::format("generation {} is given up: {}", state_.proposed->number, why));
  state_.proposed.reset();
  change_.reset();
  no_proposal_before_ = now_ + options_.join_window * 4;
  PersistState();
}

// A change that is overtaken by another loss before training went on becomes part of the next one.
void Coordinator::OpenChange(const Generation& generation, bool urgent, const std::string& reason) {
  Change change;
  change.generation = generation.number;
  MembershipChange& record = change.record;
  record.cause = change_ && urgent ? change_->record.cause + "; " + reason : reason;
  record.members_before = last_members_;
  for (const Member& member : generation.members) record.members_after.push_back(member.worker);
  if (urgent && active_dead_) {
    record.detect_ms = Milliseconds(known_ - first_sign_);
    record.agree_ms = Milliseconds(now_ - known_);
  }
  if (change_ && urgent) {
    record.detect_ms = std::max(record.detect_ms, change_->record.detect_ms);
    record.agree_ms += change_->record.agree_ms;
  }
  change_ = std::move(change);
}

void Coordinator::CloseChange() {
  const MembershipChange& record = change_->record;
  last_members_ = record.members_after;
  for (auto& [id, worker] : workers_) {
    if (IsActive(id, worker)) Unbar(worker);
  }
  actions_.push_back(EmitEvent{"membership", change_->generation,
                               fmt::format("generation {}: {} -> {} workers at step {}: {}",
                                           change_->generation, record.members_before.size(),
                                           record.members_after.size(), record.step, record.cause),
                               record});
  change_.reset();
}

}  // namespace muster
