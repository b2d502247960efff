#include "runtime/train/dataset.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "runtime/base/check.h"

namespace muster {
namespace {

// The 64-bit finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which every input bit reaches every output bit.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

constexpr uint64_t kGolden =
    0x9E3779B97F4A7C15;  // 2^64 / golden ratio, odd: its multiples never repeat

// Four rounds make a Feistel network pseudo-random (Luby and Rackoff 1988) when halves are long; ours may have one bit.
constexpr int kRounds = 8;

// A permutation of [0, 2^(2 x half_bits)).
uint64_t Feistel(uint64_t value, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (int round = 0; round < kRounds; ++round) {
    key += kGolden;
    // The upper bits of the product-based mix are the better ones.
    const uint64_t image = Mix(right ^ key) >> (64 - half_bits);
    left = std::exchange(right, left ^ image);
  }
  return left << half_bits | right;
}

// Copies row `sample` of each sample from `from`, rows of `width` values, to `to`.
template <typename T>
void CopyRows(const std::vector<T>& from, int64_t width, std::span<const int64_t> samples,
              std::vector<T>& to) {
  to.resize(samples.size() * static_cast<size_t>(width));
  auto out = to.begin();
  for (int64_t sample : samples) out = std::copy_n(from.begin() + sample * width, width, out);
}

}  // namespace

MemoryDataset::MemoryDataset(std::vector<float> features, int64_t feature_width,
                             std::vector<int32_t> labels, int64_t label_width)
    : features_(std::move(features)),
      labels_(std::move(labels)),
      feature_width_(feature_width),
      label_width_(label_width) {
  MUSTER_CHECK(feature_width >= 0 && label_width >= 0 && feature_width + label_width > 0,
               "feature_width={} label_width={}", feature_width, label_width);
  MUSTER_CHECK(size() >= 1, "a data set needs at least one sample");
  MUSTER_CHECK(std::cmp_equal(features_.size(), size() * feature_width_) &&
                   std::cmp_equal(labels_.size(), size() * label_width_),
               "{} features of width {} and {} labels of width {} are not equally many samples",
               features_.size(), feature_width, labels_.size(), label_width);
}

int64_t MemoryDataset::size() const {
  return feature_width_ > 0 ? static_cast<int64_t>(features_.size()) / feature_width_
                            : static_cast<int64_t>(labels_.size()) / label_width_;
}

int64_t MemoryDataset::features() const { return feature_width_; }

int64_t MemoryDataset::labels() const { return label_width_; }

Status MemoryDataset::Read(std::span<const int64_t> samples, Batch& batch) const {
  for (int64_t sample : samples) {
    MUSTER_CHECK(sample >= 0 && sample < size(), "sample {} of a data set of {}", sample, size());
  }
  batch.size = static_cast<int64_t>(samples.size());
  CopyRows(features_, feature_width_, samples, batch.features);
  CopyRows(labels_, label_width_, samples, batch.labels);
  return {};
}

SampleOrder::SampleOrder(uint64_t seed, int64_t dataset_size)
    : seed_(seed), size_(static_cast<uint64_t>(dataset_size)) {
  MUSTER_CHECK(dataset_size >= 1, "dataset_size={}", dataset_size);
  // The smallest even number of bits that holds every sample: the domain is less than 4 x size + 4.
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
}

int64_t SampleOrder::SampleAt(uint64_t position) const {
  const uint64_t key = Mix(Mix(seed_ + kGolden) + position / size_);
  // Walking the cycle from an index in the range comes back into the range at the latest at the index itself, and
  // different indices arrive at different places.
  uint64_t sample = position % size_;
  do {
    sample = Feistel(sample, half_bits_, key);
  } while (sample >= size_);
  return static_cast<int64_t>(sample);
}

}  // namespace muster
