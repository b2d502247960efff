// The decisions of the coordinator: who is evicted, which generation comes next, when the job has ended.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "launcher/rendezvous/coordinator.h"
#include "launcher/rendezvous/listed.h"
#include "runtime/base/numbered_name.h"

namespace muster {

namespace {

// How long a member whose order stream is cut may take to come back before a recovery goes on without it.
constexpr auto kLimbo = std::chrono::milliseconds(300);

bool BySlotNumber(const std::string& a, const std::string& b) {
  return NumberedName::Parse(a) < NumberedName::Parse(b);
}

bool Contains(const std::vector<std::string>& list, const std::string& id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

// The same of a list in the order of slot numbers.
bool ContainsSorted(const std::vector<std::string>& slots, const std::string& slot) {
  return std::binary_search(slots.begin(), slots.end(), slot, BySlotNumber);
}

}  // namespace

void Coordinator::Decide() {
  if (finished_) return;
  say_missing_ = false;
  if (record_away_) {
    message_ = "the last decision is not recorded yet; until then nobody joins or leaves";
    return;
  }
  EvictSilent();
  CheckFinished();
  if (finished_) return;
  if (!state_.active) {
    DecideStart();
  } else if (active_dead_) {
    DecideRecovery();
  } else {
    DecidePlanned();
  }
  if (!finished_) UpdateSlots();
}

bool Coordinator::Usable(const Worker& worker) const {
  return worker.registered && !worker.evicted && !worker.slot_failed &&
         now_ - worker.last_seen <= options_.heartbeat_timeout;
}

// With a fixed number, all are needed to start, and any one is enough to go on.
int Coordinator::Quorum() const {
  if (state_.min_workers < state_.max_workers) return state_.min_workers;
  return state_.started ? 1 : state_.min_workers;
}

int Coordinator::Wanted() const {
  int wanted = state_.max_workers;
  const auto failed = [](const auto& entry) { return entry.second.slot_failed; };
  if (std::ranges::none_of(workers_, failed)) return wanted;
  for (const std::string& slot : TargetSlots()) {
    const auto found = workers_.find(slot);
    if (found != workers_.end() && found->second.slot_failed) --wanted;
  }
  return wanted;
}

// Those of the platform; it knows how many are wanted. Without one, the slots to keep when there are more than wanted: members
// before others, low numbers before high ones.
std::vector<std::string> Coordinator::TargetSlots() const {
  if (options_.slots_from_platform) return offered_.slots;
  const auto limit = static_cast<size_t>(state_.max_workers);
  std::vector<std::string> slots = state_.slots;  // which are in order
  if (slots.size() == limit) return slots;
  if (slots.size() > limit) {
    std::ranges::stable_partition(slots,
                                  [&](const std::string& slot) { return ActiveRank(slot) >= 0; });
    slots.resize(limit);
  }
  for (int number = 0; slots.size() < limit; ++number) {
    const std::string slot = fmt::format("w-{}", number);
    if (!Contains(slots, slot)) slots.push_back(slot);
  }
  std::ranges::sort(slots, BySlotNumber);
  return slots;
}

std::vector<std::string> Coordinator::Chosen() const {
  std::vector<std::string> chosen;
  for (const std::string& slot : TargetSlots()) {
    const auto found = workers_.find(slot);
    if (found == workers_.end() || !Usable(found->second)) continue;
    if (!IsBarred(found->second)) chosen.push_back(slot);
  }
  return chosen;
}

std::string Coordinator::MissingSentence() const {
  std::vector<std::string> missing;
  const std::vector<std::string> chosen = Chosen();
  for (const std::string& slot : TargetSlots()) {
    if (ContainsSorted(chosen, slot)) continue;
    const auto found = workers_.find(slot);
    const char* why = "not started yet";
    if (found != workers_.end()) {
      const Worker& worker = found->second;
      why = worker.slot_failed        ? "crash loop"
            : IsBarred(worker)        ? "cut off"
            : worker.evicted          ? "silent"
            : worker.running          ? "has not joined yet"
            : worker.incarnation != 0 ? "restarting"
                                      : why;
    }
    missing.push_back(fmt::format("{} ({})", slot, why));
  }
  if (missing.empty()) missing.push_back("the platform to bring more");
  return fmt::format("{} of {} workers are here; waiting for {}", chosen.size(), state_.max_workers,
                     Listed(missing));
}

void Coordinator::CheckFinished() {
  if (!results_.empty() && state_.active) {
    for (const Member& member : state_.active->members) {
      const Worker* worker = WorkerOf(member);
      if (!results_.contains(member.worker) && worker != nullptr && Usable(*worker)) {
        return;  // still on its way
      }
    }
    const auto& [first_id, first] = *results_.begin();
    for (const auto& [id, result] : results_) {
      if (result.weights == first.weights && result.step == first.step) continue;
      failed_worker_ = id;
      Finish(
          Phase::kFailed, 3,
          fmt::format("replicas differ at the end: {} has weights {} at step {}, {} has {} at step "
                      "{}; the program's gradients are not a function of its inputs alone",
                      first_id, first.weights, first.step, id, result.weights, result.step));
      return;
    }
    Finish(first.stopped ? Phase::kStopped : Phase::kSucceeded, 0,
           first.stopped ? state_.stop_reason : fmt::format("all {} steps are done", first.step));
  } else if (state_.stop_requested && now_ - stop_requested_at_ > options_.stop_timeout) {
    Finish(Phase::kStopped, 0,
           fmt::format("{}; the workers did not stop within {:.0f} s and were ended",
                       state_.stop_reason, Seconds(options_.stop_timeout)));
  }
}

void Coordinator::DecideStart() {
  if (state_.stop_requested) {
    return Finish(Phase::kStopped, 0, state_.stop_reason + "; nobody who held the state is left");
  }
  // Several may have crashed for the last time at the same moment, each while the others still trained.
  if (Wanted() < Quorum()) return Finish(Phase::kFailed, 3, crash_loop_);
  const std::vector<std::string> chosen = Chosen();
  const int here = static_cast<int>(chosen.size());
  if (here > 0 && here >= Wanted()) {
    Propose(chosen, true, fmt::format("all {} workers are here", here));
  } else if (here > 0 && here >= Quorum() && now_ - last_join_ >= options_.gather_window) {
    Propose(chosen, true,
            fmt::format("{} of {} workers are here and nobody has come for {:.1f} s", here,
                        state_.max_workers, Seconds(options_.gather_window)));
  } else if (now_ - waiting_since_ > options_.start_timeout) {
    Finish(Phase::kFailed, 4,
           fmt::format("no quorum within {:.0f} s: {}", Seconds(options_.start_timeout),
                       MissingSentence()));
  } else {
    message_.clear();
    say_missing_ = true;
  }
}

void Coordinator::DecideRecovery() {
  const Generation& active = *state_.active;
  std::vector<int> survivors;
  int next_rank = 0;
  bool somebody_lost = false;
  bool somebody_barred = false;
  bool suspect = false;
  bool somebody_in_limbo = false;
  bool all_know = true;
  for (const Member& member : active.members) {
    const int rank = next_rank++;
    const Worker* found = WorkerOf(member);
    if (found != nullptr && found->awaited) {  // EvictSilent ends this
      message_ = fmt::format(
          "generation {} is over: {}; waiting for {} to come back to the restarted coordinator",
          active.number, cause_, member.worker);
      return;
    }
    if (found == nullptr || !Usable(*found)) {
      somebody_lost = true;
      continue;
    }
    const Worker& worker = *found;
    if (IsBarred(worker)) {
      somebody_lost = somebody_barred = true;
      continue;
    }
    const auto silence = now_ - worker.last_seen;
    if (!worker.connected) somebody_in_limbo = true;
    if (worker.revoked < active.number) {
      all_know = false;
      // EvictSilent() ends this.
      if (!worker.lost_by.empty() && silence > options_.heartbeat_timeout / 10) suspect = true;
    }
    survivors.push_back(rank);
  }
  const auto dead_for = now_ - known_;
  message_ = fmt::format("generation {} is over: {}", active.number, cause_);
  if (survivors.empty() && somebody_barred) {  // they hold the state
    message_ += "; waiting for members that are cut off";
    return;
  }
  if (survivors.empty()) {
    Emit("all-lost",
         fmt::format("all members of generation {} are lost ({}); the next ones restore the "
                     "newest checkpoint or start at step 0",
                     active.number, cause_));
    state_.active.reset();
    state_.proposed.reset();
    change_.reset();
    waiting_since_ = last_join_ = now_;
    PersistState();
    if (state_.stop_requested) DecideStart();
    return;
  }
  if (suspect || (somebody_in_limbo && dead_for < kLimbo)) return;
  // Who died is not known yet: the agent or the heartbeat will tell.
  if (!somebody_lost && !all_know && dead_for < options_.heartbeat_timeout) return;
  std::erase_if(survivors, [&](int rank) {
    return !workers_.at(active.members[static_cast<size_t>(rank)].worker).connected;
  });
  const std::vector<int> side = sides_.Largest(survivors);
  std::vector<std::string> members = MembersAt(side);
  CutOff(survivors, side);
  if (static_cast<int>(members.size()) < Quorum()) members = Chosen();
  if (static_cast<int>(members.size()) < Quorum() || members.empty()) {
    message_ += "; below the minimum: ";
    say_missing_ = true;
    if (dead_for > options_.start_timeout) {
      Finish(Phase::kFailed, 4,
             fmt::format("no quorum within {:.0f} s: {}", Seconds(options_.start_timeout),
                         MissingSentence()));
    }
    return;
  }
  Propose(members, true, cause_);
}

void Coordinator::DecidePlanned() {
  if (state_.proposed) {
    message_ = fmt::format("generation {} with {} workers is being prepared",
                           state_.proposed->number, state_.proposed->members.size());
    if (now_ - proposed_at_ <= options_.prepare_timeout) return;
    for (const Member& member : state_.proposed->members) {
      const auto found = workers_.find(member.worker);
      if (InActive(member.worker) || found == workers_.end()) continue;
      if (found->second.prepared == state_.proposed->number) continue;
      Evict(member.worker,
            fmt::format("{} was not connected {:.0f} s after it was asked to join", member.worker,
                        Seconds(options_.prepare_timeout)),
            proposed_at_);
      return;
    }
    proposed_at_ = now_;  // all joiners are ready: the members' step takes long
    return;
  }
  message_ = fmt::format("training with {} workers", state_.active->members.size());
  for (const Member& member : state_.active->members) {
    const Worker* worker = WorkerOf(member);
    if (worker == nullptr || worker->generation >= state_.active->number) continue;
    message_ =
        worker->awaited
            ? fmt::format("waiting for {} to come back to the restarted coordinator", member.worker)
            : fmt::format("waiting for {} to enter generation {}", member.worker,
                          state_.active->number);
    return;
  }
  // One change at a time; none when the end is near.
  if (change_ || !results_.empty() || state_.stop_requested || now_ < no_proposal_before_) return;
  const std::vector<std::string> chosen = Chosen();
  std::vector<std::string> joining;
  std::vector<std::string> leaving;
  for (const std::string& id : chosen) {
    if (!InActive(id)) joining.push_back(id);
  }
  for (const Member& member : state_.active->members) {
    if (ContainsSorted(chosen, member.worker)) continue;
    const auto why = offered_.leaving.find(member.worker);
    leaving.push_back(why == offered_.leaving.end()
                          ? member.worker
                          : fmt::format("{} ({})", member.worker, why->second));
  }
  if (joining.empty() && leaving.empty()) {
    if (static_cast<int>(chosen.size()) < Wanted()) {
      message_ += "; ";
      say_missing_ = true;
    }
    return;
  }
  if (chosen.empty() || static_cast<int>(chosen.size()) < Quorum()) return;
  const bool more_may_come =
      static_cast<int>(chosen.size()) < Wanted() && now_ - last_join_ < options_.join_window;
  if (!joining.empty() && more_may_come) return;
  std::string reason;
  if (!joining.empty()) reason = fmt::format("{} joining", fmt::join(joining, ", "));
  if (!leaving.empty()) {
    reason += fmt::format("{}{} leaving", reason.empty() ? "" : "; ", fmt::join(leaving, ", "));
  }
  Propose(chosen, false, reason);
}

void Coordinator::On(const SlotsOffered& event) {
  offered_ = event;
  std::ranges::sort(offered_.slots, BySlotNumber);
  // Names are never used twice: what is known of a slot that exists no more is of no use.
  const std::unordered_set<std::string_view> offered(event.slots.begin(), event.slots.end());
  const auto exists = [&](const std::string& slot) {
    return offered.contains(slot) || event.leaving.contains(slot) || KnownSlot(slot);
  };
  std::erase_if(state_.dismissed, [&](const auto& entry) { return !exists(entry.first); });
  std::erase_if(workers_, [&](const auto& entry) { return !exists(entry.first); });
}

bool Coordinator::KnownSlot(const std::string& slot) const {
  const auto [begin, end] = std::ranges::equal_range(state_.slots, slot, BySlotNumber);
  return std::find(begin, end, slot) != end;  // "w-01" is none
}

// Slots follow the wanted number; one that leaves stays until the generation without it has taken its first step: before that the
// slowest of the others may still be reading from it how the vote has ended.
void Coordinator::UpdateSlots() {
  const std::vector<std::string> target = TargetSlots();
  if (target == state_.slots) return;
  const std::unordered_set<std::string_view> targets(target.begin(), target.end());
  std::vector<std::string> kept;
  const bool switching = change_ && state_.active && !active_dead_;
  for (const std::string& slot : state_.slots) {
    if (targets.contains(slot)) continue;
    const auto found = workers_.find(slot);
    const bool left_just_now = switching && Contains(last_members_, slot) &&
                               found != workers_.end() && Usable(found->second);
    if (InActive(slot) || InProposed(slot) || left_just_now) kept.push_back(slot);
  }
  std::vector<std::string> slots;
  std::ranges::merge(target, kept, std::back_inserter(slots), BySlotNumber);
  if (slots == state_.slots) return;
  std::vector<std::string> dropped;
  std::ranges::set_difference(state_.slots, slots, std::back_inserter(dropped), BySlotNumber);
  state_.slots = slots;
  for (const std::string& slot : dropped) {
    const auto found = workers_.find(slot);
    if (found != workers_.end()) Dismiss(slot, found->second.incarnation);
  }
  PersistState();
  for (const std::string& slot : dropped) {
    const auto found = workers_.find(slot);
    if (found != workers_.end() && found->second.registered) {
      SendTo(slot, {Order::Kind::kRelease, {}, false, WhyLeaving(slot)});
    }
    actions_.push_back(SendAgent{slot, SendAgent::Kind::kShutDown, WhyLeaving(slot)});
    workers_.erase(slot);
  }
  actions_.push_back(SetSlots{slots});
}

}  // namespace muster
