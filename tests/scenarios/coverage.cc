#include "tests/scenarios/coverage.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <string_view>
#include <variant>

namespace muster::scenario {

namespace {

// In the order of the variants and enums.
constexpr std::string_view kEvents[] = {
    "hello",         "stream lost",    "reported",        "agent attached",
    "agent alive",   "started",        "exited",          "slot exited",
    "slots offered", "platform noted", "platform failed", "resize",
    "stop",          "record away",    "record back",     "tick"};
constexpr std::string_view kReports[] = {"progress", "revoked", "build failed", "resumed",
                                         "finished", "failed",  "notice"};
constexpr std::string_view kActions[] = {"persist", "order", "agent order",
                                         "slots",   "event", "end"};
constexpr std::string_view kMemberActions[] = {"build", "discard", "revoke", "enter",
                                               "hello", "leave",   "report"};
constexpr std::string_view kPlans[] = {"none", "initialize", "wait", "redo", "transfer"};
static_assert(std::size(kEvents) == std::variant_size_v<CoordinatorEvent>);
static_assert(std::size(kActions) == std::variant_size_v<CoordinatorAction>);
static_assert(std::size(kMemberActions) == std::variant_size_v<MemberAction>);

// Each kind once.
template <typename Actions, size_t n>
std::string Kinds(const Actions& actions, const std::string_view (&names)[n]) {
  std::set<std::string_view> kinds;
  for (const auto& action : actions) kinds.insert(names[action.index()]);
  return kinds.empty() ? "nothing" : fmt::format("{}", fmt::join(kinds, ", "));
}

}  // namespace

void Coverage::Coordinator(Phase before, const CoordinatorEvent& event,
                           const std::vector<CoordinatorAction>& actions) {
  std::string_view what = kEvents[event.index()];
  if (const auto* reported = std::get_if<WorkerReported>(&event)) {
    what = kReports[static_cast<size_t>(reported->report.kind)];
  }
  ++seen_[fmt::format("coordinator: {}, {} -> {}", PhaseName(before), what,
                      Kinds(actions, kActions))];
}

void Coverage::Member(const std::string& trigger, const MemberCore& core,
                      const std::vector<MemberAction>& actions) {
  const char* state = core.released()      ? "released"
                      : core.active() == 0 ? "in none"
                      : core.broken()      ? "in a dead one"
                                           : "in one";
  ++seen_[fmt::format("member: {}, {}{} -> {}", trigger, state,
                      core.prepared() != 0 ? " with another prepared" : "",
                      Kinds(actions, kMemberActions))];
}

void Coverage::Recovery(const RecoveryPlan& plan) {
  std::set<std::string_view> kinds;
  for (const auto action : plan.actions) kinds.insert(kPlans[static_cast<size_t>(action)]);
  ++seen_[fmt::format("recovery: {}{}", fmt::join(kinds, ", "), plan.done ? ", done" : "")];
}

}  // namespace muster::scenario
