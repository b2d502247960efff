#include "runtime/core/protocol.h"

namespace muster {

int Generation::RankOf(const std::string& worker) const {
  for (size_t rank = 0; rank < members.size(); ++rank) {
    if (members[rank].worker == worker) return static_cast<int>(rank);
  }
  return -1;
}

}  // namespace muster
