#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/platform/kubernetes/fleet_core.h"
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

TEST(FleetStart, IsGivenUpAtTheDeadlineAndTriedAgainAfterAPause) {
  FleetOptions options = Options(2, 2);
  options.brake_fraction = 1;
  Scene scene(options);
  scene.Pass(seconds(0));
  scene.Answer("run-a-1");
  scene.Runs("run-a-1");
  scene.Answer("run-a-2");
  scene.Pass(minutes(15));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1", "run-a-2"}));
  EXPECT_EQ(
      scene.reason(),
      "gives up a start after 900 s and tries again in 60 s: pool a: 1 of 2 pods run, run-a-2: "
      "pod Pending (not scheduled yet)");
  scene.Do(PodGone{"run-a-1", "uid-run-a-1"});
  scene.Do(PodGone{"run-a-2", "uid-run-a-2"});
  scene.Pass(seconds(59));
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Pass(seconds(1));
  EXPECT_EQ(scene.created(), (Names{"run-a-3", "run-a-4"}));
}

TEST(FleetStart, FailsTheJobAfterTooManyAttemptsAndSaysWhoIsMissing) {
  FleetOptions options = Options(1, 1);
  options.gang_retries = 0;
  Scene scene(options);
  scene.Pass(seconds(0));
  scene.Answer("run-a-1");
  scene.Pass(minutes(15));
  const auto failures = scene.All<FailJob>();
  ASSERT_THAT(failures, SizeIs(1));
  EXPECT_EQ(failures[0].exit_code, 4);
  EXPECT_THAT(failures[0].message, HasSubstr("pool a: 0 of 1 pods run, run-a-1: pod Pending"));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1"}));
}

TEST(FleetStart, DoesNotCountOpportunisticPodsAndNeverFailsForThem) {
  FleetOptions options = Options(2, 2);
  options.pools[0].growth.mode = Growth::Mode::kOpportunistic;
  options.gang_retries = 0;
  Scene scene(options);
  scene.Pass(seconds(0));
  EXPECT_THAT(scene.created(), SizeIs(2));
  scene.Answer("run-a-1");
  scene.Pass(minutes(60));
  EXPECT_THAT(scene.All<FailJob>(), IsEmpty());
  EXPECT_THAT(scene.deleted(), IsEmpty());
}

TEST(FleetUnmet, WithdrawsWhatWaitsBeyondTheMinimumAndAsksAgainAfterAPause) {
  Scene scene(Options(1, 2));
  scene.Grow(1);
  scene.Do(MemberJoined{"run-a-1"});
  scene.Answer("run-a-2");
  scene.Pass(minutes(10));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-2"}));
  EXPECT_THAT(scene.reason(), HasSubstr("withdraws 1 pods that waited for 600 s"));
  scene.Do(PodGone{"run-a-2", "uid-run-a-2"});
  scene.Pass(seconds(119));
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Pass(seconds(1));
  EXPECT_EQ(scene.created(), (Names{"run-a-3"}));
}

TEST(FleetCrashLoop, PausesLongerEachRoundAndThenThePoolStops) {
  FleetOptions options = Options(0, 1);
  options.crash_limit = 3;
  Scene scene(options);
  scene.Pass(seconds(0));
  for (int serial = 1; serial <= 3; ++serial) {
    const std::string name = "run-a-" + std::to_string(serial);
    scene.Answer(name);
    PodView view = scene.View(name, PodPhase::kFailed);
    view.exit_code = 127;
    scene.Do(PodSeen{view});
    EXPECT_EQ(scene.All<PodLost>().at(0).reason, "pod failed, exit code 127");
    if (serial == 3) break;
    scene.Pass(seconds(serial) - std::chrono::milliseconds(1));
    EXPECT_THAT(scene.created(), IsEmpty());
    scene.Pass(std::chrono::milliseconds(1));
    EXPECT_THAT(scene.created(), SizeIs(1));
  }
  EXPECT_THAT(scene.reason(), HasSubstr("asks for no more pods: 3 rounds of them ended at once"));
  scene.Pass(minutes(60));
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Do(Resized{{{"a", {0, 1}}}});
  EXPECT_THAT(scene.created(), SizeIs(1));
}

TEST(FleetCrashLoop, FailsAStartThatItBlocks) {
  FleetOptions options = Options(1, 1);
  options.crash_limit = 1;
  Scene scene(options);
  scene.Pass(seconds(0));
  scene.Answer("run-a-1");
  scene.See("run-a-1", PodPhase::kFailed);
  EXPECT_THAT(scene.All<FailJob>().at(0).message, HasSubstr("no start with 0 of 1 pods"));
}

TEST(FleetBrake, OneListAloneLosesNobody) {
  Scene scene(Options(0, 20));
  scene.Grow(20);
  scene.Pass(minutes(1));
  scene.List({});
  EXPECT_THAT(scene.created(), IsEmpty());
  EXPECT_THAT(scene.All<PodLost>(), IsEmpty());
  EXPECT_THAT(scene.reason(), HasSubstr("a list lacks 20 of 20 pods"));
  scene.Pass(seconds(2));
  EXPECT_THAT(scene.All<ListPods>(), SizeIs(1));
  scene.List({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  EXPECT_THAT(scene.All<PodLost>(), SizeIs(5));
  EXPECT_THAT(scene.created(), SizeIs(5));
}

TEST(FleetBrake, NoListTakesAMember) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  scene.Do(MemberJoined{"run-a-1"});
  for (int i = 0; i < 3; ++i) {
    scene.Pass(seconds(5));
    scene.List({});
    EXPECT_THAT(scene.All<PodLost>(), IsEmpty());
  }
}

TEST(FleetBrake, DeletesATenthAtATimeUnlessTheUserAsks) {
  Scene scene(Options(1, 20));
  scene.Grow(1);
  scene.Do(MemberJoined{"run-a-1"});
  for (int i = 2; i <= 20; ++i) scene.Answer("run-a-" + std::to_string(i));
  scene.Pass(minutes(10));
  EXPECT_THAT(scene.deleted(), SizeIs(2));
  scene.Pass(seconds(1));
  EXPECT_THAT(scene.deleted(), SizeIs(2));
  scene.Do(Resized{{{"a", {1, 1}}}});
  EXPECT_THAT(scene.deleted(), SizeIs(15));
}

TEST(FleetRestart, BelievesTwoListsAndGoesOnBeyondTheSerialsOfBefore) {
  FleetSaved saved;
  saved.serials["a"] = 7;
  Scene scene(Options(0, 2), saved);
  scene.Pass(seconds(0));
  EXPECT_THAT(scene.All<ListPods>(), SizeIs(1));
  scene.List({});
  EXPECT_THAT(scene.created(), IsEmpty());
  scene.Pass(seconds(2));
  EXPECT_THAT(scene.All<ListPods>(), SizeIs(1));
  scene.List({3});
  EXPECT_EQ(scene.created(), (Names{"run-a-8"}));
}

TEST(FleetLostAnswers, ACreateWithoutAnswerIsSettledByLists) {
  Scene scene(Options(0, 2));
  scene.Pass(seconds(0));
  scene.Pass(seconds(30));
  EXPECT_THAT(scene.created(), IsEmpty());
  EXPECT_THAT(scene.All<ListPods>(), SizeIs(1));
  scene.List({1});
  scene.Pass(seconds(2));
  scene.List({1});
  EXPECT_EQ(scene.created(), (Names{"run-a-3"}));
  EXPECT_THAT(scene.All<PodLost>(), IsEmpty());
}

TEST(FleetLostAnswers, ADeleteWithoutAnswerIsSentAgain) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  scene.Do(Stopped{"end"});
  scene.Pass(seconds(15));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1"}));
  scene.Do(DeleteAnswered{"run-a-1", "uid-run-a-1", DeleteAnswered::Result::kNotFound});
  EXPECT_TRUE(scene.core().done());
}

TEST(FleetLateNews, WhatIsGoneDoesNotComeBack) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  scene.Pass(minutes(1));
  scene.Do(PodGone{"run-a-1", "uid-run-a-1"});
  EXPECT_EQ(scene.created(), (Names{"run-a-2"}));
  scene.Runs("run-a-1");
  EXPECT_THAT(scene.actions(), IsEmpty());
}

TEST(FleetDeadNodes, APodThatTerminatesForEverIsRemovedByForce) {
  Scene scene(Options(0, 1));
  scene.Grow(1);
  scene.Do(MemberJoined{"run-a-1"});
  scene.See("run-a-1", PodPhase::kRunning, true);
  scene.Pass(seconds(89));
  EXPECT_THAT(scene.deleted(), IsEmpty());
  scene.Pass(seconds(1));
  ASSERT_EQ(scene.deleted(), (Names{"run-a-1"}));
  EXPECT_EQ(scene.All<DeletePod>()[0].grace, Duration::zero());
}

TEST(FleetDeadNodes, APodThatTerminatesWithoutAWorkerInTheRingIsRemovedByForceSooner) {
  Scene scene(Options(0, 2));
  scene.Grow(2);
  for (const char* pod : {"run-a-1", "run-a-2"}) scene.Do(MemberJoined{pod});
  for (const char* pod : {"run-a-1", "run-a-2"}) scene.Do(MemberLeft{pod});
  scene.Pass(seconds(40));
  for (const char* pod : {"run-a-1", "run-a-2"}) scene.See(pod, PodPhase::kRunning, true);
  scene.Pass(seconds(14));
  EXPECT_THAT(scene.deleted(), IsEmpty());
  scene.Pass(seconds(1));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-1", "run-a-2"}));  // the brake is for what may be of use
}

TEST(FleetDeadNodes, APodOutsideTheRingForTooLongIsReplaced) {
  Scene scene(Options(0, 2));
  scene.Grow(2);
  scene.Do(MemberJoined{"run-a-1"});
  scene.Do(MemberJoined{"run-a-2"});
  scene.Do(MemberLeft{"run-a-2"});
  scene.Pass(minutes(5));
  EXPECT_EQ(scene.deleted(), (Names{"run-a-2"}));
  EXPECT_THAT(scene.reason(), HasSubstr("its worker has not been in the ring for 300 s"));
}

}  // namespace
}  // namespace muster::fleet
