#include "runtime/core/recovery.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster {

using Action = RecoveryPlan::Action;

bool RecoveryPlan::Any(Action action) const {
  return std::find(actions.begin(), actions.end(), action) != actions.end();
}

namespace {

RecoveryPlan PlanFirstState(size_t members) {
  RecoveryPlan plan;
  plan.actions.assign(members, Action::kWait);
  plan.actions[0] = Action::kInitialize;
  plan.reason = "nobody holds state: rank 0 restores a checkpoint or initialises";
  return plan;
}

}  // namespace

RecoveryPlan PlanRecovery(std::span<const Entry> entries) {
  const bool somebody = std::any_of(entries.begin(), entries.end(),
                                    [](const Entry& entry) { return entry.has_state != 0; });
  if (!somebody) return PlanFirstState(entries.size());

  RecoveryPlan plan;
  for (const Entry& entry : entries) {
    if (entry.has_state != 0) plan.target = std::max(plan.target, entry.position);
  }
  for (size_t rank = 0; rank < entries.size(); ++rank) {
    const Entry& entry = entries[rank];
    if (entry.has_state == 0 || entry.position != plan.target) continue;
    plan.donors.push_back(static_cast<int>(rank));
    plan.done = plan.done || entry.done != 0;
    if (plan.outcome_from < 0 && entry.outcome_of != Entry::kNone &&
        entry.outcome_of + 1 == plan.target) {
      plan.outcome_from = static_cast<int>(rank);
    }
  }
  int redo = 0;
  int transfer = 0;
  for (const Entry& entry : entries) {
    Action action = Action::kNone;
    if (entry.has_state == 0 || entry.position != plan.target) {
      const bool can_redo = entry.has_state != 0 && plan.outcome_from >= 0 &&
                            entry.position + 1 == plan.target && entry.reduced_at == entry.position;
      action = can_redo ? Action::kRedo : Action::kTransfer;
      ++(can_redo ? redo : transfer);
    }
    plan.actions.push_back(action);
  }
  plan.reason =
      fmt::format("{} of {} members are at position {}; {} redo one vote, {} pull the state",
                  plan.donors.size(), entries.size(), plan.target, redo, transfer);
  return plan;
}

}  // namespace muster
