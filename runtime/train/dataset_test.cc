#include "runtime/train/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace muster {
namespace {

std::vector<int64_t> Epoch(const SampleOrder& order, int64_t size, uint64_t epoch) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < size; ++i) {
    samples.push_back(order.SampleAt(epoch * static_cast<uint64_t>(size) + i));
  }
  return samples;
}

TEST(SampleOrder, VisitsEverySampleOfAnEpochOnce) {
  for (int64_t size : {1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 255, 257, 1437, 4096, 60'000}) {
    const SampleOrder order(5, size);
    for (uint64_t epoch : {uint64_t{0}, uint64_t{1}, uint64_t{1'000'000'007}}) {
      std::vector<int64_t> samples = Epoch(order, size, epoch);
      std::ranges::sort(samples);
      for (int64_t i = 0; i < size; ++i) ASSERT_EQ(samples[i], i) << "size " << size;
    }
  }
}

// A million draws with replacement from 2^34 would repeat about 32 times.
TEST(SampleOrder, RepeatsNothingInALargeDataSet) {
  const int64_t power = int64_t{1} << 34;
  for (int64_t size : {power, power + 1, power << 6}) {
    const SampleOrder order(6, size);
    std::vector<int64_t> samples(1 << 20);
    for (size_t i = 0; i < samples.size(); ++i) samples[i] = order.SampleAt(i);
    std::ranges::sort(samples);
    EXPECT_GE(samples.front(), 0);
    EXPECT_LT(samples.back(), size);
    EXPECT_EQ(std::ranges::adjacent_find(samples), samples.end()) << "size " << size;
  }
}

TEST(SampleOrder, StaysInRangeForTheLargestDataSet) {
  const int64_t size = INT64_MAX;
  const SampleOrder order(7, size);
  std::set<int64_t> seen;
  for (uint64_t i = 0; i < 1000; ++i) seen.insert(order.SampleAt(i));
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_GE(*seen.begin(), 0);
  EXPECT_LT(*seen.rbegin(), size);
}

TEST(SampleOrder, TakesTheLastPosition) {
  const SampleOrder order(7, 1000);
  EXPECT_LT(order.SampleAt(UINT64_MAX), 1000);
}

TEST(SampleOrder, IsAFunctionOfSeedAndEpoch) {
  const SampleOrder order(8, 500);
  EXPECT_EQ(Epoch(order, 500, 3), Epoch(SampleOrder(8, 500), 500, 3));
  EXPECT_NE(Epoch(order, 500, 3), Epoch(order, 500, 4));
  EXPECT_NE(Epoch(order, 500, 3), Epoch(SampleOrder(9, 500), 500, 3));
  // Seeds and epochs are not interchangeable: seed 8 in epoch 4 is not seed 9 in epoch 3.
  EXPECT_NE(Epoch(order, 500, 4), Epoch(SampleOrder(9, 500), 500, 3));
}

TEST(SampleOrder, ReachesAllOrdersOfThreeSamplesEquallyOften) {
  const SampleOrder order(10, 3);
  std::map<std::vector<int64_t>, int> counts;
  for (uint64_t epoch = 0; epoch < 6000; ++epoch) ++counts[Epoch(order, 3, epoch)];
  ASSERT_EQ(counts.size(), 6u);
  for (const auto& [samples, count] : counts) EXPECT_NEAR(count, 1000, 130);
}

TEST(SampleOrder, PutsEverySampleAtAnyPlaceEquallyOften) {
  constexpr int64_t kSize = 37;
  constexpr int kEpochs = 37 * 200;
  const SampleOrder order(11, kSize);
  for (int64_t place : {int64_t{0}, int64_t{1}, kSize - 1}) {
    std::vector<int> counts(kSize);
    for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
      ++counts[order.SampleAt(epoch * kSize + place)];
    }
    double chi_square = 0;
    for (int count : counts) chi_square += (count - 200.0) * (count - 200.0) / 200.0;
    EXPECT_LT(chi_square, 68.0) << "place " << place;  // 36 degrees of freedom, p = 0.001
  }
}

// Neighbours in the data set, which may be alike, must not stay neighbours in the order.
TEST(SampleOrder, TearsNeighboursApart) {
  constexpr int64_t kSize = 10'000;
  const std::vector<int64_t> samples = Epoch(SampleOrder(12, kSize), kSize, 0);
  double distance = 0;
  for (int64_t i = 1; i < kSize; ++i) distance += std::abs(samples[i] - samples[i - 1]);
  EXPECT_NEAR(distance / (kSize - 1), kSize / 3.0, 100);
}

TEST(MemoryDataset, ReadsRowsInTheOrderAskedFor) {
  const MemoryDataset dataset({0, 1, 10, 11, 20, 21}, 2, {5, 6, 7}, 1);
  EXPECT_EQ(dataset.size(), 3);
  EXPECT_EQ(dataset.features(), 2);
  EXPECT_EQ(dataset.labels(), 1);
  Batch batch;
  const std::vector<int64_t> samples = {2, 0, 2};
  ASSERT_TRUE(dataset.Read(samples, batch).has_value());
  EXPECT_EQ(batch.size, 3);
  EXPECT_EQ(batch.features, (std::vector<float>{20, 21, 0, 1, 20, 21}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{7, 5, 7}));
}

TEST(MemoryDataset, LeavesNothingOfAnEarlierBatch) {
  const MemoryDataset dataset({1, 2, 3}, 1, {4, 5, 6}, 1);
  Batch batch;
  const std::vector<int64_t> all = {0, 1, 2};
  const std::vector<int64_t> last = {2};
  ASSERT_TRUE(dataset.Read(all, batch).has_value());
  ASSERT_TRUE(dataset.Read(last, batch).has_value());
  EXPECT_EQ(batch.size, 1);
  EXPECT_EQ(batch.features, std::vector<float>{3});
  EXPECT_EQ(batch.labels, std::vector<int32_t>{6});
}

TEST(MemoryDataset, MayHoldLabelsOnly) {
  const MemoryDataset dataset({}, 0, {1, 2, 3, 4}, 2);
  EXPECT_EQ(dataset.size(), 2);
  Batch batch;
  const std::vector<int64_t> samples = {1};
  ASSERT_TRUE(dataset.Read(samples, batch).has_value());
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{3, 4}));
}

TEST(MemoryDatasetDeathTest, RefusesFeaturesAndLabelsOfDifferentCounts) {
  EXPECT_DEATH(MemoryDataset({1, 2, 3}, 1, {1, 2}, 1), "not equally many samples");
  EXPECT_DEATH(MemoryDataset({1, 2, 3}, 2, {1}, 1), "not equally many samples");
}

TEST(MemoryDatasetDeathTest, RefusesAnIndexOutsideOfTheDataSet) {
  const MemoryDataset dataset({1, 2}, 1, {1, 2}, 1);
  Batch batch;
  const std::vector<int64_t> beyond = {2};
  const std::vector<int64_t> negative = {-1};
  EXPECT_DEATH((void)dataset.Read(beyond, batch), "sample 2 of a data set of 2");
  EXPECT_DEATH((void)dataset.Read(negative, batch), "sample -1");
}

}  // namespace
}  // namespace muster
