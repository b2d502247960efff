// Text: what the cores say, in one line each, for traces.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "launcher/rendezvous/coordinator.h"
#include "runtime/core/member.h"

namespace muster::scenario {

std::string Text(
    const Generation&
        generation);  // "2 [w-0 w-1]", with the process where it is not the first: "w-1/2"
std::string Text(const Order& order);
std::string Text(const Report& report);
std::string Text(const Hello& hello);
std::string Text(const MemberAction& action);
std::string Text(const CoordinatorEvent& event);
std::string Text(const JobStatus& status);
// What `now` says that `before` did not; empty if nothing.
std::string Difference(const CoordinatorState& before, const CoordinatorState& now);

// "w-2" before "w-10".
struct BySlotNumber {
  bool operator()(const std::string& a, const std::string& b) const {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  }
};

}  // namespace muster::scenario
