#include "launcher/rendezvous/sides.h"

namespace muster {

namespace {

bool Says(const Unreachable& unreachable, const std::string& who, const std::string& of) {
  const auto found = unreachable.find(who);
  return found != unreachable.end() && found->second.contains(of);
}

}  // namespace

std::vector<std::string> LargestSide(const std::vector<std::string>& members,
                                     const Unreachable& unreachable) {
  std::vector<std::string> side = members;
  const std::set<std::string> there(members.begin(), members.end());
  std::map<std::string, std::set<std::string>> cut_off_from;
  for (const std::string& member : members) {
    const auto found = unreachable.find(member);
    if (found == unreachable.end()) continue;
    for (const std::string& other : found->second) {
      const bool both_say_so = there.contains(other) && Says(unreachable, other, member);
      if (both_say_so) cut_off_from[member].insert(other);
    }
  }
  while (!cut_off_from.empty()) {
    auto worst = side.begin();
    for (auto each = side.begin(); each != side.end(); ++each) {
      if (cut_off_from[*each].size() >= cut_off_from[*worst].size()) worst = each;
    }
    for (const std::string& other : cut_off_from[*worst]) cut_off_from[other].erase(*worst);
    cut_off_from.erase(*worst);
    side.erase(worst);
    std::erase_if(cut_off_from, [](const auto& entry) { return entry.second.empty(); });
  }
  return side;
}

}  // namespace muster
