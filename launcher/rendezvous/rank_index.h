// RankIndex: the ranks of a generation by worker, for who asks often. A generation has one membership, so its number says whether the
// index is still good.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "runtime/core/protocol.h"

namespace muster {

class RankIndex {
 public:
  // The rank of `worker`, or -1.
  int RankOf(const Generation& generation, const std::string& worker) {
    if (number_ != generation.number) {
      number_ = generation.number;
      ranks_.clear();
      for (const Member& member : generation.members) {
        ranks_.emplace(member.worker, static_cast<int>(ranks_.size()));
      }
    }
    const auto found = ranks_.find(worker);
    return found == ranks_.end() ? -1 : found->second;
  }

 private:
  uint64_t number_ = 0;
  std::unordered_map<std::string, int> ranks_;
};

}  // namespace muster
