// Sides: who can work together while the network between the members is cut.
//
// Threading: pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace muster {

// By member: those it could not connect to.
using Unreachable = std::map<std::string, std::set<std::string>>;

// Those of `members`, in their order, who all reach each other, as many as can be had simply: one by one, those are left out who
// are cut off from most of the rest; of several the last. Two are cut off from each other if both say so.
std::vector<std::string> LargestSide(const std::vector<std::string>& members,
                                     const Unreachable& unreachable);

}  // namespace muster
