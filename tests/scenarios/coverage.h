// Coverage: which transitions of the protocol a simulation has been through, so that one that stopped exploring is noticed.
//
// A transition is a line: who, what happened, in which state, and which kinds of actions followed.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "launcher/rendezvous/coordinator.h"
#include "runtime/core/member.h"
#include "runtime/core/recovery.h"

namespace muster::scenario {

class Coverage {
 public:
  void Coordinator(Phase before, const CoordinatorEvent& event,
                   const std::vector<CoordinatorAction>& actions);
  // `core` as it is after it has decided.
  void Member(const std::string& trigger, const MemberCore& core,
              const std::vector<MemberAction>& actions);
  void Recovery(const RecoveryPlan& plan);

  // By line: how often.
  const std::map<std::string, uint64_t>& seen() const { return seen_; }

 private:
  std::map<std::string, uint64_t> seen_;
};

}  // namespace muster::scenario
