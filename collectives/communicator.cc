#include "collectives/communicator.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace muster {

size_t SliceBegin(size_t count, int size, int rank) {
  MUSTER_CHECK(size > 0 && rank >= 0 && rank <= size, "slice {} of {}", rank, size);
  constexpr size_t kAlignment = 64 / 4;
  const size_t blocks = count / kAlignment + (count % kAlignment != 0);
  const size_t slices = static_cast<size_t>(size);
  const size_t index = static_cast<size_t>(rank);
  const size_t block = blocks / slices * index + std::min(index, blocks % slices);
  return std::min(count, block * kAlignment);
}

}  // namespace muster
