#include "launcher/platform/kubernetes/follow_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace muster::kubernetes {

// How a failed test shows an action.
void PrintTo(const FollowAction& action, std::ostream* out) {
  *out << "{" << static_cast<int>(action.kind) << " " << action.text << "}";
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = FollowAction::Kind;

constexpr const char* kFinished = R"({"event":"finished","phase":"succeeded"})";
const TimePoint kNow{std::chrono::hours(1)};
const TimePoint kLater = kNow + std::chrono::seconds(1);

FollowAction Note(const std::string& text) { return {Kind::kNote, text}; }
FollowAction Event(const std::string& text) { return {Kind::kEvent, text}; }

std::string Numbered(int number) { return fmt::format(R"({{"sequence":{},"kind":"x"}})", number); }

RunLook Started() {
  RunLook look;
  look.started = true;
  return look;
}

RunLook Gone() {
  RunLook look;
  look.gone = true;
  return look;
}

TEST(FollowCore, TellsEachReasonOnceAndThatItIsOver) {
  FollowCore core(0);
  EXPECT_THAT(core.Cut("503"), IsEmpty());
  EXPECT_THAT(core.Looked({}), ElementsAre(Note("the coordinator's Job is not there")));
  EXPECT_THAT(core.Cut("503"), IsEmpty());
  EXPECT_THAT(core.Looked({}), IsEmpty());
  EXPECT_THAT(core.LookFailed({Code::kUnavailable, "no route", ""}),
              ElementsAre(Note("the cluster does not answer: no route")));
  EXPECT_THAT(core.Connected(), ElementsAre(Note("the coordinator answers")));
  EXPECT_THAT(core.Cut("reset"), ElementsAre(Note("the connection to the coordinator was cut "
                                                  "(reset); connecting again")));
  EXPECT_THAT(core.Connected(), ElementsAre(Note("the coordinator answers again")));
}

TEST(FollowCore, SaysNothingOfAConnectionThatWorksAtOnce) {
  FollowCore core(0);
  EXPECT_THAT(core.Connected(), IsEmpty());
}

TEST(FollowCore, HandsOnEachEventOnce) {
  FollowCore core(2);
  core.Connected();
  EXPECT_THAT(core.Line(Numbered(2)), IsEmpty());
  EXPECT_THAT(core.Line(Numbered(3)), ElementsAre(Event(Numbered(3))));
  core.Cut("");
  RunLook look;
  look.events = fmt::format("{}\n{}\n{}", Numbered(2), Numbered(3), Numbered(4));
  EXPECT_THAT(core.Looked(look), testing::Contains(Event(Numbered(4))));
  EXPECT_EQ(core.last_sequence(), 4U);
  core.Connected();
  EXPECT_THAT(core.Line(Numbered(4)), IsEmpty());
  EXPECT_THAT(core.Line(R"({"event":"progress"})"), ElementsAre(Event(R"({"event":"progress"})")));
  EXPECT_THAT(core.Line("{cut"), IsEmpty());
}

TEST(FollowCore, EndsWithTheFinishedLineOrTheKeyThatTheCoordinatorLeft) {
  FollowCore streamed(0);
  streamed.Connected();
  EXPECT_THAT(streamed.Line(kFinished), ElementsAre(FollowAction{Kind::kEnd, kFinished}));
  EXPECT_THAT(streamed.Line(Numbered(9)), IsEmpty());
  EXPECT_THAT(streamed.Cut("end"), IsEmpty());

  FollowCore kept(0);
  RunLook look = Started();
  look.finished = kFinished;
  EXPECT_THAT(kept.Looked(look), ElementsAre(FollowAction{Kind::kEnd, kFinished}));
}

TEST(FollowCore, EndsWhenTheRunIsGoneOrItsJobHasFailed) {
  FollowCore gone(0);
  EXPECT_THAT(
      gone.Looked(Gone()),
      ElementsAre(FollowAction{Kind::kGone, "somebody has deleted the run from the cluster"}));
  FollowCore failed(0);
  RunLook look;
  look.scene.job = {{"status", {{"conditions", {{{"type", "Failed"}, {"status", "True"}}}}}}};
  EXPECT_THAT(failed.Looked(look),
              ElementsAre(FollowAction{Kind::kFailed, "the coordinator's Job has failed"}));
}

TEST(FollowCore, IgnoresALookFromBeforeItConnected) {
  FollowCore core(0);
  core.Connected();
  EXPECT_THAT(core.Looked(Gone()), IsEmpty());
}

TEST(FollowCore, LeavesTheRunAloneAfterCtrlC) {
  for (const int number : {SIGINT, SIGHUP}) {
    FollowCore core(0);
    core.Connected();
    EXPECT_THAT(core.Signal(number, kNow), ElementsAre(FollowAction{Kind::kDetach, ""}));
    EXPECT_EQ(core.left_by(), number);
    EXPECT_THAT(core.Signal(SIGTERM, kLater), IsEmpty());
  }
}

TEST(FollowCore, StopsAtTheFirstSigtermAndDeletesAtTheSecond) {
  FollowCore core(0);
  core.Connected();
  EXPECT_THAT(core.Signal(SIGTERM, kNow),
              ElementsAre(Note("stopping after this step (again to delete the run)"),
                          FollowAction{Kind::kStop, ""}));
  EXPECT_THAT(core.Signal(SIGTERM, kNow + std::chrono::milliseconds(5)), IsEmpty());
  EXPECT_THAT(core.Signal(SIGTERM, kLater),
              ElementsAre(Note("deleting the run"), FollowAction{Kind::kDelete, ""}));
  EXPECT_THAT(core.Signal(SIGTERM, kLater + std::chrono::seconds(1)), IsEmpty());
  EXPECT_EQ(core.ended_by(), SIGTERM);
  core.Cut("");
  EXPECT_THAT(core.Looked(Gone()), ElementsAre(FollowAction{Kind::kGone, "killed by the user"}));
}

TEST(FollowCore, DeletesAtOnceWhatHasNeverRun) {
  FollowCore waiting(0);
  waiting.Looked({});
  EXPECT_THAT(waiting.Signal(SIGTERM, kNow), ElementsAre(Note("nothing runs yet: deleting the run"),
                                                         FollowAction{Kind::kDelete, ""}));
  // It may train, although we have never reached it.
  FollowCore unreached(0);
  unreached.Looked(Started());
  EXPECT_THAT(unreached.Signal(SIGTERM, kNow), testing::Contains(FollowAction{Kind::kStop, ""}));
}

TEST(FollowCore, AnySignalTakesBackARunThatHasNoProgramYet) {
  for (const int number : {SIGINT, SIGHUP, SIGTERM}) {
    FollowCore core(0, /*sending=*/true);
    core.Connected();
    EXPECT_THAT(core.Signal(number, kNow),
                ElementsAre(Note("the program has not been sent: deleting the run"),
                            FollowAction{Kind::kDelete, ""}));
    EXPECT_EQ(core.ended_by(), number);
    EXPECT_THAT(core.Signal(number, kLater), IsEmpty());
    EXPECT_THAT(core.Sent("sent"), IsEmpty());
    core.Cut("");
    EXPECT_THAT(core.Looked(Gone()), ElementsAre(FollowAction{Kind::kGone, "killed by the user"}));
  }
}

TEST(FollowCore, LeavesTheRunAloneOnceItHasTheProgram) {
  FollowCore core(0, /*sending=*/true);
  core.Connected();
  EXPECT_THAT(core.Sending("sends digits"), ElementsAre(Note("sends digits")));
  EXPECT_THAT(core.Sent("sent digits"), ElementsAre(Note("sent digits")));
  EXPECT_THAT(core.Signal(SIGINT, kNow), ElementsAre(FollowAction{Kind::kDetach, ""}));
}

TEST(FollowCore, DetachesOnceTheProgramHasBeenSent) {
  FollowCore core(0, /*sending=*/true, /*detach=*/true);
  core.Connected();
  EXPECT_THAT(core.Sent("sent"), ElementsAre(Note("sent"), FollowAction{Kind::kDetach, ""}));
  EXPECT_EQ(core.left_by(), 0);
}

TEST(FollowCore, AFileThatCannotBeSentIsTheEndOfARunThatNeedsIt) {
  const Error changed{Code::kAborted, "data has been changed", ""};
  FollowCore first(0, /*sending=*/true);
  EXPECT_THAT(first.SendFailed(changed),
              ElementsAre(FollowAction{Kind::kFailed,
                                       "the program cannot be sent: data has been changed"}));
  FollowCore again(0, /*sending=*/true);
  again.Sent("sent");
  EXPECT_THAT(again.SendFailed(changed),
              ElementsAre(Note("the program cannot be sent: data has been changed")));
}

}  // namespace
}  // namespace muster::kubernetes
