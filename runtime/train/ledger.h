// SampleLedger: one line a computed step, written before the vote, so that `launcher ledger` can prove afterwards that each
// sample of an epoch was used once.
//
//   {"dataset":1438,"micro_batches":16,"batch_size":16}
//   {"step":12,"generation":3,"micro_batches":[4,8],"position":3136,"samples":64}
//   {"steps":400}
//
// The first line gives the samples of an epoch and the shape of a step. Then: the step computed and the generation, this
// worker's share of the micro-batches (first and end), the place of its first sample in the endless stream of epochs, the
// samples. A step that is computed in several generations was committed in the last of them: nobody computes a committed
// step again. Two lines of one step and generation are a redo with larger exponents; the last one counts. The last line
// gives the committed steps. The file stops growing at 64 MiB, with a last line {"full":true}.
//
// Threading: one thread.
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/base/unique_fd.h"
#include "runtime/core/micro_batches.h"

namespace muster {

class SampleLedger {
 public:
  // A ledger in `path`, whose folder is made if need be; one that cannot be opened records nothing.
  SampleLedger(const std::filesystem::path& path, int64_t dataset_size, int micro_batches,
               int batch_size);

  void Computed(uint64_t step, uint64_t generation, MicroBatchRange share);
  void Finished(uint64_t steps);

 private:
  void Write(const std::string& line);
  const uint64_t micro_batches_;
  const uint64_t batch_size_;
  UniqueFd file_;
  uint64_t written_ = 0;
};

}  // namespace muster
