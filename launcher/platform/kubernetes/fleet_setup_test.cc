#include "launcher/platform/kubernetes/fleet_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/platform/kubernetes/fleet_core.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using ::testing::ElementsAre;

ClusterRun RunWith(std::vector<Pool> pools = {}) {
  ClusterRun run;
  run.spec.name = "digits";
  run.spec.id = "1a2b3c4d5e6f708192a3b4c5d6e7f809";
  run.spec.min_workers = 2;
  run.spec.max_workers = 6;
  run.file.pools = std::move(pools);
  return run;
}

Pool NewPool(const std::string& name, WorkerRange workers, int devices = 1) {
  Pool pool;
  pool.name = name;
  pool.workers = workers;
  pool.device_count = devices;
  return pool;
}

TEST(FleetSetup, WithoutPoolsThereIsOneAsLargeAsTheJob) {
  const fleet::FleetOptions options = FleetOptionsOf(RunWith());
  EXPECT_EQ(options.run, "1a2b3c4d5e6f");
  EXPECT_EQ(options.pod_prefix, "digits-1a2b3");
  EXPECT_EQ(options.grace, std::chrono::seconds(30));
  ASSERT_EQ(options.pools.size(), 1U);
  EXPECT_EQ(options.pools[0].name, "workers");
  EXPECT_EQ(options.pools[0].pods, (WorkerRange{2, 6}));
  // That of the job file is no limit to another size.
  EXPECT_EQ(FleetOptionsOf(RunWith(), WorkerRange{3, 100}).pools[0].pods, (WorkerRange{3, 100}));
  EXPECT_EQ(PodsFor(RunWith(), {1, 1}), (std::map<std::string, WorkerRange>{{"workers", {1, 1}}}));
}

TEST(FleetSetup, PoolsAreCountedInPodsAndKeepTheirOrderAndGrowth) {
  Pool spot = NewPool("spot", {0, 16}, 8);
  spot.growth = {Growth::Mode::kStep, 2};
  const ClusterRun run = RunWith({NewPool("base", {2, 4}), spot});
  const fleet::FleetOptions options = FleetOptionsOf(run);
  ASSERT_EQ(options.pools.size(), 2U);
  EXPECT_EQ(options.pools[0].pods, (WorkerRange{2, 4}));
  EXPECT_EQ(options.pools[1].pods, (WorkerRange{0, 2}));
  EXPECT_EQ(options.pools[1].growth, spot.growth);
  EXPECT_EQ(FleetOptionsOf(run, WorkerRange{2, 12}).pools[1].pods, (WorkerRange{0, 1}));
}

TEST(FleetSetup, TheCoreNamesPodsAsTheyAreMadeHoweverLongTheirPool) {
  const ClusterRun run =
      RunWith({NewPool("a-pool-with-a-name-longer-than-names-of-pods-allow", {1, 1})});
  fleet::FleetCore core(FleetOptionsOf(run), {});
  std::string name;
  for (const auto& action : core.Handle(fleet::TimePassed{}, {}).actions) {
    if (const auto* create = std::get_if<fleet::CreatePod>(&action)) name = create->name;
  }
  EXPECT_EQ(name, WorkerName(run.spec, run.file.pools[0].name, 1));
  EXPECT_THAT(PodSlots(run).OfPod(name), ElementsAre(run.file.pools[0].name + "-1"));
  EXPECT_EQ(PodSlots(run).PodOf(run.file.pools[0].name + "-1"), name);
}

TEST(PodSlots, APodHasASlotForEachOfItsDevices) {
  const PodSlots slots(RunWith({NewPool("a", {0, 4}), NewPool("b", {0, 8}, 2)}));
  EXPECT_THAT(slots.OfPod("digits-1a2b3-a-12"), ElementsAre("a-12"));
  EXPECT_THAT(slots.OfPod("digits-1a2b3-b-3"), ElementsAre("b-3-0", "b-3-1"));
  EXPECT_THAT(slots.OfPod("b", 3), ElementsAre("b-3-0", "b-3-1"));
  EXPECT_EQ(slots.PodOf("a-12"), "digits-1a2b3-a-12");
  EXPECT_EQ(slots.PodOf("b-3-0"), "digits-1a2b3-b-3");
  EXPECT_EQ(slots.PodOf("b-3-1"), "digits-1a2b3-b-3");
}

TEST(PodSlots, WhatIsNoneOfOursIsNothing) {
  const PodSlots slots(RunWith({NewPool("a", {0, 4}), NewPool("b", {0, 8}, 2)}));
  for (const char* pod : {"", "digits-1a2b3-a-", "digits-1a2b3-a-x", "digits-1a2b3-a-07",
                          "digits-1a2b3-c-1", "digits-1a2b4-a-1", "digits-1a2b3-a-1-1"}) {
    EXPECT_THAT(slots.OfPod(pod), ElementsAre()) << pod;
  }
  for (const char* slot : {"", "a", "a-", "a-x", "a-1-0", "b-1", "b-1-2", "b-1-", "c-1", "a--1"}) {
    EXPECT_EQ(slots.PodOf(slot), "") << slot;
  }
}

// The beginning of a pool's name may be another pool's.
TEST(PodSlots, PoolsWithSimilarNames) {
  const PodSlots slots(
      RunWith({NewPool("a", {0, 4}), NewPool("a-b", {0, 4}), NewPool("a-b-c", {0, 4})}));
  for (const char* pool : {"a", "a-b", "a-b-c"}) {
    const std::string slot = fmt::format("{}-5", pool);
    const std::string pod = "digits-1a2b3-" + slot;
    EXPECT_EQ(slots.PodOf(slot), pod);
    EXPECT_THAT(slots.OfPod(pod), ElementsAre(slot));
  }
}

}  // namespace
}  // namespace muster::kubernetes
