// Sides: who can work together while the network between the members of a generation is cut. Members are ranks of it.
//
// Threading: pure.
#pragma once

#include <cstddef>
#include <vector>

namespace muster {

class Sides {
 public:
  // `rank` could not connect to these, whatever it has said before.
  void Say(int rank, const std::vector<int>& unreachable);
  // It has said nothing.
  void Forget(int rank) { Say(rank, {}); }
  void Clear() { *this = {}; }

  // Those of `members` (ascending) who all reach each other, as many as can be had simply: one by one, those are left out who are cut
  // off from most of the rest; of several the last. Two are cut off from each other if both say so.
  std::vector<int> Largest(const std::vector<int>& members) const;

 private:
  bool Says(size_t rank, size_t of) const { return of < said_[rank].size() && said_[rank][of]; }
  bool AreCutOff(size_t one, size_t other) const { return Says(one, other) && Says(other, one); }

  std::vector<std::vector<bool>> said_;  // by rank and unreachable rank; nothing beyond the end
  size_t cuts_ = 0;                      // pairs that are cut off from each other
};

}  // namespace muster
