#include "launcher/platform/kubernetes/fleet_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/platform/kubernetes/fleet_test_util.h"

namespace muster::fleet {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Names = std::vector<std::string>;
using Result = CreateAnswered::Result;

TEST(FleetGrowth, MaxAsksForAllMissingPodsAtOnceAfterTheirSerialsAreDurable) {
  Scene scene(Options(2, 3));
  scene.Pass(seconds(0));
  EXPECT_EQ(scene.created(), (Names{"run-a-1", "run-a-2", "run-a-3"}));
  ASSERT_TRUE(std::holds_alternative<Persist>(scene.actions()[1]));
  EXPECT_GE(std::get<Persist>(scene.actions()[1]).saved.serials.at("a"), 3);
  EXPECT_EQ(scene.reason(), "pool a: asks for pods, 3 of 3 are missing (max)");
}

TEST(FleetGrowth, StepNeverHasMoreThanSoManyWaiting) {
  FleetOptions options = Options(0, 5);
  options.pools[0].growth = {Growth::Mode::kStep, 2};
  Scene scene(options);
  scene.Pass(seconds(0));
  EXPECT_THAT(scene.created(), SizeIs(2));
  scene.Answer("run-a-1");
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Runs("run-a-1");
  EXPECT_EQ(scene.created(), (Names{"run-a-3"}));
}

TEST(FleetGrowth, KeepsTheLimitOfCreatesInFlight) {
  FleetOptions options = Options(0, 5);
  options.max_creates_in_flight = 2;
  Scene scene(options);
  scene.Pass(seconds(0));
  EXPECT_EQ(scene.created(), (Names{"run-a-1", "run-a-2"}));
  scene.Answer("run-a-1");
  EXPECT_EQ(scene.created(), (Names{"run-a-3"}));
}

TEST(FleetGrowth, PausesWhenTheServerIsBusyAndUsesANewName) {
  Scene scene(Options(0, 1));
  scene.Pass(seconds(0));
  scene.Answer("run-a-1", Result::kBusy, "", seconds(7));
  scene.Pass(seconds(6));
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Pass(seconds(1));
  EXPECT_EQ(scene.created(), (Names{"run-a-2"}));
}

TEST(FleetGrowth, PausesLongerEachTimeTheQuotaRefusesAndSaysSo) {
  Scene scene(Options(0, 1));
  scene.Pass(seconds(0));
  scene.Answer("run-a-1", Result::kRefused, "exceeded quota: pods=10");
  EXPECT_EQ(scene.reason(), "pool a: no more pods for now: exceeded quota: pods=10");
  EXPECT_THAT(scene.core().Status().pools[0].note, HasSubstr("exceeded quota"));
  scene.Pass(seconds(5));
  EXPECT_EQ(scene.created(), (Names{"run-a-2"}));
  scene.Answer("run-a-2", Result::kRefused, "exceeded quota: pods=10");
  scene.Pass(seconds(9));
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Pass(seconds(1));
  EXPECT_EQ(scene.created(), (Names{"run-a-3"}));
}

TEST(FleetReplacement, WaitsUntilTheOldPodIsTerminal) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  scene.Pass(minutes(1));
  scene.See("run-a-1", PodPhase::kRunning, true);
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.See("run-a-1", PodPhase::kFailed, true);
  EXPECT_EQ(scene.created(), (Names{"run-a-2"}));
}

TEST(FleetNotice, ADisruptionIsNoticeAndItsEndIsALoss) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  PodView view = scene.View("run-a-1", PodPhase::kRunning);
  view.disruption = "EvictionByEvictionAPI";
  scene.Do(PodSeen{view});
  EXPECT_EQ(scene.All<Notice>().at(0).reason, "EvictionByEvictionAPI");
  scene.Do(PodSeen{view});
  EXPECT_THAT(scene.All<Notice>(), IsEmpty());
  scene.Do(PodGone{"run-a-1", "uid-run-a-1"});
  EXPECT_EQ(scene.All<PodLost>().at(0).reason, "it was deleted");
}

TEST(FleetSilence, APodWhoseWorkerLeftAndOfWhichNothingIsHeardIsLookedFor) {
  Scene scene(Options(2, 2));
  scene.Grow(2);
  scene.Do(MemberJoined{"run-a-1"});
  scene.Do(MemberJoined{"run-a-2"});
  scene.Pass(seconds(60));
  scene.Do(MemberLeft{"run-a-2"});
  EXPECT_THAT(scene.All<ListPods>(), IsEmpty()) << "the watch will tell";
  scene.Pass(seconds(2));
  ASSERT_THAT(scene.All<ListPods>(), SizeIs(1));
  EXPECT_EQ(scene.All<ListPods>()[0].reason, "run-a-2 has left the ring");
  scene.List({1, 2});
  scene.Pass(seconds(60));
  EXPECT_THAT(scene.All<ListPods>(), IsEmpty()) << "it runs";
}

TEST(FleetSilence, NoListIsNeededWhereTheWatchTells) {
  Scene scene(Options(2, 2));
  scene.Grow(2);
  scene.Do(MemberJoined{"run-a-1"});
  scene.Pass(seconds(60));
  scene.Do(MemberLeft{"run-a-1"});
  scene.Pass(seconds(1));
  scene.See("run-a-1", PodPhase::kFailed);
  scene.Answer("run-a-3");
  scene.Pass(seconds(60));
  EXPECT_THAT(scene.All<ListPods>(), IsEmpty());
}

TEST(FleetStatus, ExplainsEachPodThatWaits) {
  Scene scene(Options(0, 1));
  scene.Pass(seconds(0));
  scene.Answer("run-a-1");
  PodView view = scene.View("run-a-1", PodPhase::kPending);
  view.unscheduled_reason = "Unschedulable";
  view.unscheduled_message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
  scene.Do(PodSeen{view});
  EXPECT_EQ(scene.All<Explain>().at(0).sentence, "pod Pending (Insufficient nvidia.com/gpu)");
  view.unscheduled_reason.clear();
  view.node = "n-1";
  view.waiting_reason = "ImagePullBackOff";
  scene.Do(PodSeen{view});
  EXPECT_EQ(scene.core().Status().waiting.at(0).sentence, "pod Pending (ImagePullBackOff)");
  scene.Runs("run-a-1");
  EXPECT_EQ(scene.All<Explain>().at(0).sentence, "");
}

TEST(FleetShrink, TakesThoseThatWaitFirstAndThenTheYoungest) {
  Scene scene(Options(0, 4));
  scene.Grow(4);
  scene.Do(Resized{{{"a", {0, 5}}}});
  scene.Answer("run-a-5");
  for (const char* pod : {"run-a-1", "run-a-2", "run-a-3", "run-a-4"}) scene.Do(MemberJoined{pod});
  scene.Do(Resized{{{"a", {0, 2}}}});
  EXPECT_EQ(scene.deleted(), (Names{"run-a-5", "run-a-4", "run-a-3"}));
  EXPECT_THAT(scene.All<Notice>(), SizeIs(2));
}

TEST(FleetStop, DeletesAllWithGraceAndIsDoneWhenNothingIsLeft) {
  Scene scene(Options(0, 2));
  scene.Pass(seconds(0));
  scene.Answer("run-a-1");
  scene.Do(Stopped{"the user asked"});
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1"}));
  EXPECT_EQ(scene.All<DeletePod>().at(0).grace, Duration(seconds(30)));
  scene.Answer("run-a-2");
  EXPECT_EQ(scene.deleted(), (Names{"run-a-2"}));
  scene.Do(PodGone{"run-a-1", "uid-run-a-1"});
  EXPECT_FALSE(scene.core().done());
  scene.Do(PodGone{"run-a-2", "uid-run-a-2"});
  EXPECT_TRUE(scene.core().done());
}

TEST(FleetOwnership, NeverTouchesPodsOfAnotherRunOrOfUnknownName) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  PodView foreign = scene.View("run-a-2", PodPhase::kRunning);
  foreign.run = "another";
  PodView unknown = scene.View("run-b-1", PodPhase::kRunning);
  for (const PodView& view : {foreign, unknown}) {
    scene.Do(PodSeen{view});
    EXPECT_THAT(scene.actions(), IsEmpty());
    scene.Do(PodsListed{{scene.View("run-a-1", PodPhase::kRunning), view}, scene.now()});
    EXPECT_THAT(scene.actions(), IsEmpty());
  }
  scene.Do(Stopped{"end"});
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1"}));
}

}  // namespace
}  // namespace muster::fleet
