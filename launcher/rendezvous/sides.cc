#include "launcher/rendezvous/sides.h"

#include <algorithm>

namespace muster {

void Sides::Say(int rank, const std::vector<int>& unreachable) {
  const auto row = static_cast<size_t>(rank);
  if (row >= said_.size()) said_.resize(row + 1);
  const auto cuts = [&] {
    size_t count = 0;
    for (size_t other = 0; other < said_.size(); ++other) count += AreCutOff(row, other) ? 1 : 0;
    return count;
  };
  cuts_ -= cuts();
  said_[row].clear();
  for (const int other : unreachable) {
    const auto column = static_cast<size_t>(other);
    if (other == rank) continue;
    if (column >= said_[row].size()) said_[row].resize(column + 1);
    said_[row][column] = true;
  }
  cuts_ += cuts();
}

std::vector<int> Sides::Largest(const std::vector<int>& members) const {
  if (cuts_ == 0) return members;
  struct Member {
    size_t rank;
    size_t cuts = 0;  // from those who are still there
  };
  std::vector<Member> side;
  for (const int rank : members) {
    if (static_cast<size_t>(rank) < said_.size()) side.push_back({static_cast<size_t>(rank)});
  }
  for (Member& one : side) {
    for (const Member& other : side) one.cuts += AreCutOff(one.rank, other.rank) ? 1 : 0;
  }
  std::vector<int> left_out;
  while (!side.empty()) {
    auto worst = side.begin();
    for (auto each = side.begin(); each != side.end(); ++each) {
      if (each->cuts >= worst->cuts) worst = each;
    }
    if (worst->cuts == 0) break;
    for (Member& other : side) other.cuts -= AreCutOff(worst->rank, other.rank) ? 1 : 0;
    left_out.push_back(static_cast<int>(worst->rank));
    side.erase(worst);
  }
  std::ranges::sort(left_out);
  std::vector<int> largest;
  std::ranges::set_difference(members, left_out, std::back_inserter(largest));
  return largest;
}

}  // namespace muster
