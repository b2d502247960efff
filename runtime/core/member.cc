#include "runtime/core/member.h"

#include <algorithm>
#include <utility>

namespace muster {

namespace {

Report MakeReport(Report::Kind kind, uint64_t generation, const std::string& reason,
                  const std::string& lost = {}) {
  Report report;
  report.kind = kind;
  report.generation = generation;
  report.message = reason;
  report.lost = lost;
  return report;
}

}  // namespace

std::vector<MemberAction> MemberCore::OnOrder(const Order& order) {
  if (released_) return {};
  switch (order.kind) {
    case Order::Kind::kGeneration:
      return OnGeneration(order);
    case Order::Kind::kRejoin:
      return OnRejoin(order.reason);
    case Order::Kind::kStop:
      stop_requested_ = true;
      return {};
    case Order::Kind::kRelease:
      break;
  }
  released_ = true;
  std::vector<MemberAction> actions;
  DropOrdered(actions);
  actions.push_back(RevokeActive{order.reason});
  actions.push_back(Leave{order.reason});
  return actions;
}

void MemberCore::DropOrdered(std::vector<MemberAction>& actions) {
  if (ordered_.number > active_) actions.push_back(DiscardBuild{ordered_.number});
  ordered_ = {};
  prepared_ = 0;
  urgent_ = false;
}

std::vector<MemberAction> MemberCore::OnGeneration(const Order& order) {
  const uint64_t number = order.generation.number;
  // A coordinator that repeats the order has not heard, or has forgotten in its death, that it failed here.
  if (number == failure_.generation) return {SendReport{failure_}};
  if (number <= highest_seen_) return {};  // an old order, or a repeated one
  highest_seen_ = number;
  std::vector<MemberAction> actions;
  DropOrdered(actions);
  ordered_ = order.generation;
  // A joiner waits in a generation that the others prepare: when they prepare another one, its wait is over.
  if (active_ != 0 && !broken_ && (order.urgent || joining_)) {
    broken_ = true;
    revoked_ = active_;
    actions.push_back(RevokeActive{order.reason});
  }
  urgent_ = active_ == 0 || broken_;
  if (ordered_has_me()) {
    actions.push_back(BuildGeneration{ordered_, !order.urgent});
  } else {
    prepared_ = number;  // nothing to build: this worker leaves when the others switch
  }
  return actions;
}

SendReport MemberCore::SayBuildFailed(uint64_t number, const std::string& reason,
                                      std::vector<std::string> unreachable) {
  failure_ = MakeReport(Report::Kind::kBuildFailed, number, reason);
  failure_.unreachable = std::move(unreachable);
  return {failure_};
}

std::vector<MemberAction> MemberCore::OnRejoin(const std::string& reason) {
  std::vector<MemberAction> actions;
  DropOrdered(actions);
  if (active_ != 0) actions.push_back(RevokeActive{reason});
  revoked_ =
      std::max(revoked_, highest_seen_);  // it is in none of those that were ordered up to now
  active_ = 0;
  broken_ = false;
  joining_ = false;
  actions.push_back(SayHello{});
  return actions;
}

std::vector<MemberAction> MemberCore::OnBuilt(uint64_t number) {
  if (number != ordered_.number) return {DiscardBuild{number}};
  prepared_ = number;
  if (urgent_) return {EnterGeneration{number}};
  return {};
}

std::vector<MemberAction> MemberCore::OnBuildFailed(uint64_t number, const std::string& reason,
                                                    std::vector<std::string> unreachable) {
  if (number != ordered_.number) return {};
  ordered_ = {};
  prepared_ = 0;
  return {SayBuildFailed(number, reason, std::move(unreachable))};
}

std::vector<MemberAction> MemberCore::OnBroken(uint64_t generation, const std::string& reason,
                                               const std::string& lost,
                                               std::vector<std::string> silent) {
  if (generation != active_ || broken_ || released_) return {};
  broken_ = true;
  revoked_ = std::max(revoked_, generation);
  Report report = MakeReport(Report::Kind::kRevoked, generation, reason, lost);
  report.unreachable = std::move(silent);
  std::vector<MemberAction> actions = {SendReport{std::move(report)}};
  if (urgent_) return actions;
  // A planned generation can no longer be voted for. Said, because the coordinator may know of no death: for it, this worker
  // may be a joiner from a generation that it had given up.
  const uint64_t planned = ordered_has_me() ? ordered_.number : 0;
  DropOrdered(actions);
  if (planned != 0) actions.push_back(SayBuildFailed(planned, reason, {}));
  return actions;
}

uint64_t MemberCore::entering() const {
  if (urgent_ && ordered_.number != 0) return ordered_.number;
  return broken_ || entered_ ? 0 : active_;
}

bool MemberCore::OnEntering(uint64_t number) {
  const bool overtaken = urgent_ && ordered_.number > number;
  if (number <= revoked_ || overtaken) return false;
  joining_ = active_ == 0;
  active_ = number;
  broken_ = entered_ = false;
  if (ordered_.number == number) {
    ordered_ = {};
    prepared_ = 0;
    urgent_ = false;
  }
  return true;
}

void MemberCore::OnEntered(uint64_t number) {
  if (number != active_) return;
  entered_ = true;
  joining_ = false;
}

std::vector<MemberAction> MemberCore::OnLeft() {
  active_ = 0;
  broken_ = false;
  if (!ordered_has_me()) {
    ordered_ = {};
    prepared_ = 0;
    return {};
  }
  urgent_ = true;  // there is nothing to vote in any more
  if (prepared_ != ordered_.number) return {};
  return {EnterGeneration{prepared_}};
}

}  // namespace muster
