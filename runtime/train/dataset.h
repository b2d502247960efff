// Dataset: samples by index, and the order in which training visits them.
//
// Threading: const methods may be called from several threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

// The content of some samples, row by row.
struct Batch {
  int64_t size = 0;
  std::vector<float> features;  // size x Dataset::features()
  std::vector<int32_t> labels;  // size x Dataset::labels()
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;      // samples, at least 1
  virtual int64_t features() const = 0;  // floats per sample
  virtual int64_t labels() const = 0;    // integers per sample
  // Fills `batch` with the given samples, in order. Errors: kDataLoss, naming file and offset.
  virtual Status Read(std::span<const int64_t> samples, Batch& batch) const = 0;
};

// A data set in memory.
class MemoryDataset : public Dataset {
 public:
  // `features` holds n x `feature_width`, `labels` n x `label_width` values.
  MemoryDataset(std::vector<float> features, int64_t feature_width, std::vector<int32_t> labels,
                int64_t label_width);
  int64_t size() const override;
  int64_t features() const override;
  int64_t labels() const override;
  Status Read(std::span<const int64_t> samples, Batch& batch) const override;

 private:
  std::vector<float> features_;
  std::vector<int32_t> labels_;
  int64_t feature_width_;
  int64_t label_width_;
};

// The order of samples: an endless stream of epochs, each a permutation of all samples keyed by (seed, epoch). Position p of the
// stream is sample Permute(p mod n) of epoch p / n: every sample of an epoch comes exactly once, no padding, no drops, and a
// batch may lie across the border of two epochs. O(1) memory: a Feistel network with cycle walking.
class SampleOrder {
 public:
  SampleOrder(uint64_t seed, int64_t dataset_size);
  int64_t SampleAt(uint64_t position) const;

 private:
  uint64_t seed_;
  uint64_t size_;
  int half_bits_;
};

}  // namespace muster
