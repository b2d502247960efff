#include "launcher/platform/kubernetes/fleet_spread.h"

#include <gtest/gtest.h>

namespace muster::fleet {
namespace {

using Spread = std::map<std::string, WorkerRange>;

Pool Of(const std::string& name, WorkerRange workers, int device_count = 1) {
  Pool pool;
  pool.name = name;
  pool.workers = workers;
  pool.device_count = device_count;
  return pool;
}

TEST(SpreadOverPools, FillsThePoolsInTheirOrder) {
  const std::vector<Pool> pools{Of("a", {0, 4}), Of("b", {0, 8})};
  EXPECT_EQ(SpreadOverPools(pools, {2, 3}), (Spread{{"a", {2, 3}}, {"b", {0, 0}}}));
  EXPECT_EQ(SpreadOverPools(pools, {6, 10}), (Spread{{"a", {4, 4}}, {"b", {2, 6}}}));
}

TEST(SpreadOverPools, GivesEachPoolItsOwnMinimumFirst) {
  const std::vector<Pool> pools{Of("a", {1, 8}), Of("b", {2, 8})};
  EXPECT_EQ(SpreadOverPools(pools, {3, 4}), (Spread{{"a", {1, 2}}, {"b", {2, 2}}}));
  EXPECT_EQ(SpreadOverPools(pools, {2, 2}), (Spread{{"a", {1, 1}}, {"b", {1, 1}}}));
}

TEST(SpreadOverPools, GivesWholePodsOnly) {
  const std::vector<Pool> pools{Of("gpu", {0, 64}, 8), Of("cpu", {0, 3})};
  EXPECT_EQ(SpreadOverPools(pools, {9, 20}), (Spread{{"gpu", {2, 2}}, {"cpu", {0, 3}}}));
  EXPECT_EQ(SpreadOverPools(pools, {1, 7}), (Spread{{"gpu", {0, 0}}, {"cpu", {1, 3}}}));
}

TEST(SpreadOverPools, NeverGivesMoreThanThePoolsMayHave) {
  EXPECT_EQ(SpreadOverPools({Of("a", {1, 4})}, {8, 100}), (Spread{{"a", {4, 4}}}));
}

TEST(SpreadOverPools, DoesNotCountOpportunisticPodsTowardsTheMinimum) {
  std::vector<Pool> pools{Of("idle", {0, 4}), Of("own", {2, 4})};
  pools[0].growth.mode = Growth::Mode::kOpportunistic;
  EXPECT_EQ(SpreadOverPools(pools, {3, 8}), (Spread{{"idle", {0, 4}}, {"own", {3, 4}}}));
}

}  // namespace
}  // namespace muster::fleet
