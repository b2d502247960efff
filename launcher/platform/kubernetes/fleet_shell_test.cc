#include "launcher/platform/kubernetes/fleet_shell.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "launcher/platform/kubernetes/fleet_json.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/testing/fake_api.h"
#include "launcher/platform/kubernetes/testing/heard.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using fleet::FleetSavedFromJson;
using k8s::FakeExchange;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kRun = "digits-1a2b3";

ClusterRun NewRun() {
  ClusterRun run;
  run.spec.name = "digits";
  run.spec.id = "1a2b3c4d5e6f708192a3b4c5d6e7f809";
  run.spec.min_workers = 1;
  run.spec.max_workers = 3;
  run.namespace_name = "ml";
  run.image = "registry.example/muster:1";
  run.coordinator_ip = "10.0.0.1";
  return run;
}

std::string Pod(int serial) { return fmt::format("{}-workers-{}", kRun, serial); }
std::string Slot(int serial) { return fmt::format("workers-{}", serial); }
std::vector<std::string> Slots(std::vector<int> serials) {
  std::vector<std::string> slots;
  for (const int serial : serials) slots.push_back(Slot(serial));
  return slots;
}

class FleetShellTest : public ::testing::Test {
 protected:
  FleetShellTest() {
    options_.run = NewRun();
    options_.fleet = FleetOptionsOf(options_.run);
    options_.fleet.list_gap = 20ms;
    options_.fleet.refused = {.first = 100ms, .cap = 1s};
    options_.fleet.crash_pause = {.first = 1ms, .cap = 10ms};
    options_.fleet.quick_end = 0ms;  // what ends at once is no crash
    options_.record_timeout = 200ms;
    options_.watch.backoff = {.first = 5ms, .cap = 50ms};
    options_.watch.short_watch = 0ms;
  }

  void Start() {
    record_ = std::move(*RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s));
    shell_ = std::make_unique<FleetShell>(*client_, *record_, options_, heard_);
  }
  // Starts, and has all of them run.
  void StartRunning() {
    Start();
    ASSERT_TRUE(AwaitPods({1, 2, 3}));
    api_.RunAll();
    shell_->MembersChanged(Slots({1, 2, 3}));
    ASSERT_TRUE(api_.Await([this] { return Status()["pools"][0]["members"] == 3; }));
  }
  bool AwaitPods(const std::vector<int>& serials) {
    std::vector<std::string> names;
    for (const int serial : serials) names.push_back(Pod(serial));
    std::sort(names.begin(), names.end());
    return api_.Await([&] { return api_.pods() == names; });
  }
  // What requests that begin so ("POST", "PATCH run") come to.
  void Break(const std::string& begin, std::function<Fault(FakeExchange&)> fault) {
    api_.SetFault([begin, fault = std::move(fault)](FakeExchange& exchange) {
      const std::string target = exchange.request().target;
      const bool run = target.find("/configmaps/") != target.npos;
      const bool watch = target.find("watch=true") != target.npos;
      const std::string what =
          fmt::format("{} {}", watch ? "WATCH" : exchange.request().method, run ? "run" : "pod");
      return what.starts_with(begin) ? fault(exchange) : Fault::kNone;
    });
  }
  json Status() { return json::parse(shell_->StatusJson()); }
  int Posts() {
    const std::vector<std::string> log = api_.log();
    return static_cast<int>(std::count_if(log.begin(), log.end(), [](const std::string& entry) {
      return entry.starts_with("POST");
    }));
  }

  // Of the test's faults, which may be called until the server ends.
  std::atomic<int> count_ = 0;
  std::atomic<bool> broken_ = true;
  FakeApi api_{kRun};
  std::unique_ptr<k8s::ApiClient> client_ = api_.NewClient();
  Heard heard_;
  FleetShellOptions options_;
  std::unique_ptr<RunRecord> record_;
  std::unique_ptr<FleetShell> shell_;
};

TEST_F(FleetShellTest, MakesPodsOffersTheirSlotsAndStopsThem) {
  StartRunning();
  EXPECT_EQ(heard_.story().slots, Slots({1, 2, 3}));
  EXPECT_EQ(Posts(), 3) << "one for each";
  EXPECT_EQ(Status()["phase"], "running");
  const std::vector<std::string> log = api_.log();
  const auto first_post = std::find(log.begin(), log.end(), "POST " + Pod(1));
  EXPECT_EQ(std::count(log.begin(), first_post, std::string("PATCH ") + "run"), 2)
      << "epoch and serials are durable before the first pod";
  EXPECT_EQ(FleetSavedFromJson(api_.run()["data"]["fleet"].get<std::string>())->serials["workers"],
            64);

  shell_->Stop("the job has ended");
  heard_.Await([](const Story& story) { return story.leaving.size() == 3; });
  EXPECT_EQ(heard_.story().leaving[Slot(1)], "the job has ended");
  EXPECT_FALSE(shell_->WaitUntilDone(MonotonicNow() + 20ms)) << "they have their grace period";
  for (const int serial : {1, 2, 3}) api_.RemovePod(Pod(serial));
  EXPECT_TRUE(shell_->WaitUntilDone(MonotonicNow() + 60s));
  EXPECT_EQ(Status()["phase"], "done");
}

TEST_F(FleetShellTest, APodThatFailsIsLostAndReplacedUnderANewName) {
  StartRunning();
  api_.MergePod(
      Pod(2),
      {{"status",
        {{"phase", "Failed"},
         {"containerStatuses",
          {{{"name", "worker"},
            {"state", {{"terminated", {{"exitCode", 137}, {"reason", "OOMKilled"}}}}}}}}}}});
  heard_.Await([](const Story& story) { return story.slots == Slots({1, 3, 4}); });
  EXPECT_THAT(heard_.story().lost, ElementsAre("workers-2 -1 9 pod failed, signal 9 (OOMKilled)"));
  EXPECT_TRUE(api_.Await([&] { return api_.Count("POST " + Pod(4)) == 1; }));
}

TEST_F(FleetShellTest, ADisruptionIsToldBeforeThePodIsGone) {
  StartRunning();
  api_.MergePod(Pod(1), {{"metadata", {{"deletionTimestamp", "2026-01-01T00:00:00Z"}}},
                         {"status",
                          {{"conditions",
                            {{{"type", "DisruptionTarget"},
                              {"status", "True"},
                              {"reason", "EvictionByEvictionAPI"}}}}}}});
  const Story story = heard_.Await([](const Story& s) { return !s.leaving.empty(); });
  EXPECT_EQ(story.leaving.at(Slot(1)), "EvictionByEvictionAPI");
  EXPECT_EQ(story.slots, Slots({2, 3}));
  EXPECT_THAT(story.lost, IsEmpty());
}

TEST_F(FleetShellTest, AnotherSizeIsMadeAndUnmade) {
  StartRunning();
  shell_->Resize(1, 5);
  ASSERT_TRUE(AwaitPods({1, 2, 3, 4, 5}));
  shell_->Resize(1, 2);  // the new ones wait, and go first
  ASSERT_TRUE(api_.Await([this] { return api_.Count("DELETE " + Pod(3)) == 1; }));
  heard_.Await([](const Story& story) { return story.slots == Slots({1, 2}); });
  EXPECT_EQ(heard_.story().slots, Slots({1, 2}));
  EXPECT_TRUE(api_.Await([this] { return api_.Count("DELETE " + Pod(4)) == 1; }));
}

TEST_F(FleetShellTest, LostAnswersOfCreatesMakeNoDuplicates) {
  Break("POST",
        [this](FakeExchange&) { return ++count_ <= 3 ? Fault::kLostAnswer : Fault::kNone; });
  Start();
  ASSERT_TRUE(AwaitPods({1, 2, 3}));
  heard_.Await([](const Story& story) { return story.slots == Slots({1, 2, 3}); });
  // It has settled when a list has confirmed them and nothing is missing.
  ASSERT_TRUE(api_.Await([this] { return Status()["waiting"].size() == 3 && Posts() >= 3; }));
  api_.RunAll();
  ASSERT_TRUE(api_.Await([this] { return Status()["pools"][0]["running"] == 3; }));
  EXPECT_THAT(api_.pods(), ElementsAre(Pod(1), Pod(2), Pod(3)));
  EXPECT_THAT(heard_.story().lost, IsEmpty());
}

// Nothing but lists tells what a create without an answer has come to.
TEST_F(FleetShellTest, LostAnswersAreClearedUpByListsAloneToo) {
  api_.SetFault([this](FakeExchange& exchange) {
    const k8s::FakeRequest& request = exchange.request();
    if (request.target.find("watch=true") != request.target.npos) {
      return FakeApi::Refuse(exchange, 403, "Forbidden", "no watching");
    }
    if (request.method != "POST") return Fault::kNone;
    switch (++count_) {
      case 1:
        return Fault::kLostAnswer;  // it is there
      case 2:
        exchange.Close();
        return Fault::kAnswered;  // it is not
      default:
        return Fault::kNone;
    }
  });
  options_.fleet.pools[0].pods = {2, 2};
  options_.watch.relist_period = 100ms;
  Start();
  ASSERT_TRUE(api_.Await([this] { return api_.pods().size() == 2 && Posts() >= 3; }));
  api_.RunAll();
  ASSERT_TRUE(api_.Await([this] { return Status()["pools"][0]["running"] == 2; }));
  EXPECT_EQ(api_.pods().size(), 2U);
  const Story story =
      heard_.Await([](const Story& s) { return s.Notes("api-fault: watch of pods") > 0; });
  EXPECT_EQ(story.Notes("api-fault: watch of pods"), 1);
}

TEST_F(FleetShellTest, ABusyServerIsLeftAloneAsLongAsItSays) {
  Break("POST", [this](FakeExchange& exchange) {
    if (++count_ > 3) return Fault::kNone;
    return FakeApi::Refuse(exchange, 429, "TooManyRequests", "slow down", {"Retry-After: 1"});
  });
  Start();
  const TimePoint begin = MonotonicNow();
  ASSERT_TRUE(api_.Await([this] { return api_.pods().size() == 3; }));
  EXPECT_GE(MonotonicNow() - begin, 900ms);
  EXPECT_EQ(Posts(), 6);
  EXPECT_EQ(heard_.story().Notes("api-fault: creation of pods"), 1);
  EXPECT_THAT(heard_.story().notes,
              ::testing::Contains(HasSubstr("429 TooManyRequests: slow down")));
}

TEST_F(FleetShellTest, AQuotaIsNoFaultOfTheServerAndTriedMoreAndMoreSeldom) {
  Break("POST", [this](FakeExchange& exchange) {
    if (!broken_) return Fault::kNone;
    return FakeApi::Refuse(exchange, 403, "Forbidden", "exceeded quota: pods");
  });
  Start();
  ASSERT_TRUE(api_.Await([this] { return Posts() >= 6; }));
  EXPECT_TRUE(api_.Await([this] {
    const std::string note = Status()["pools"][0]["note"];
    return note.find("exceeded quota: pods; asks again in") != note.npos;
  }));
  broken_ = false;
  ASSERT_TRUE(api_.Await([this] { return api_.pods().size() == 3; }));
  const Story story = heard_.story();
  EXPECT_EQ(story.Notes("api-fault"), 0);
  EXPECT_EQ(story.Notes("fleet-grow: pool workers: no more pods for now"), 1);
}

TEST_F(FleetShellTest, ANameThatIsTakenIsLeftToItsOwner) {
  json foreign = {{"metadata", {{"name", Pod(1)}, {"labels", {{"muster.dev/run", "another"}}}}}};
  api_.AddPod(foreign);
  Start();
  ASSERT_TRUE(api_.Await([this] { return api_.pods().size() == 4; }));
  EXPECT_EQ(api_.Count("DELETE " + Pod(1)), 0);
  EXPECT_EQ(heard_.Await([](const Story& s) { return s.slots.size() == 3; }).slots,
            Slots({2, 3, 4}));
}

TEST_F(FleetShellTest, NoPodIsMadeBeforeItsSerialIsDurableAndNothingElseWaitsForThat) {
  options_.fleet.serial_block = 3;
  StartRunning();
  Break("PATCH run", [this](FakeExchange&) { return broken_ ? Fault::kSilence : Fault::kNone; });
  api_.MergePod(Pod(2), {{"status", {{"phase", "Failed"}}}});
  // Its replacement is number 4, which is not durable.
  heard_.Await([](const Story& story) { return story.slots == Slots({1, 3, 4}); });
  EXPECT_EQ(heard_.story().lost.size(), 1U);
  api_.MergePod(Pod(3), {{"status", {{"phase", "Failed"}}}});
  EXPECT_EQ(heard_.Await([](const Story& s) { return s.lost.size() == 2; }).lost.size(), 2U);
  heard_.Await([](const Story& story) { return story.Notes("api-fault: record of the run") > 0; });
  EXPECT_THAT(Status()["faults"].dump(), HasSubstr("record of the run"));
  EXPECT_EQ(Posts(), 3);
  broken_ = false;
  ASSERT_TRUE(api_.Await([this] { return Posts() == 5; }));
  EXPECT_EQ(heard_.story().Notes("api-fault: record of the run"), 1);
}

TEST_F(FleetShellTest, WhatOtherWritesOfTheRecordMeetIsAFaultToo) {
  StartRunning();
  shell_->RecordWritten(Err(Code::kUnauthenticated, "PATCH run: 401 Unauthorized"));
  heard_.Await([](const Story& story) { return story.Notes("api-fault: record of the run") > 0; });
  EXPECT_THAT(heard_.story().notes,
              ::testing::Contains("api-fault: record of the run: PATCH run: 401 Unauthorized"));
  shell_->RecordWritten({});
  EXPECT_TRUE(api_.Await([this] { return Status()["faults"].empty(); }));
}

TEST_F(FleetShellTest, CreatesThatWaitTooLongForTheRecordAreAskedForAgain) {
  options_.fleet.create_timeout = 400ms;
  record_ = std::move(*RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s));
  Break("PATCH run", [this](FakeExchange&) { return broken_ ? Fault::kSilence : Fault::kNone; });
  shell_ = std::make_unique<FleetShell>(*client_, *record_, options_, heard_);
  heard_.Await([](const Story& story) { return story.slots == Slots({1, 2, 3}); });
  heard_.Await([](const Story& story) { return story.slots.empty(); });
  EXPECT_EQ(Posts(), 0);
  EXPECT_EQ(api_.Count("GET pods"), 1) << "no list is needed to tell that they do not exist";
  broken_ = false;
  ASSERT_TRUE(api_.Await([this] { return api_.pods().size() == 3; }));
  EXPECT_EQ(api_.Count("POST " + Pod(1)), 0) << "FleetCore has forgotten it";
}

TEST_F(FleetShellTest, NothingIsSentOnceAnotherCoordinatorHasTheRun) {
  options_.fleet.serial_block = 3;
  StartRunning();
  const auto second = *RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s);
  api_.MergePod(Pod(2), {{"status", {{"phase", "Failed"}}}});
  const Story story = heard_.Await([](const Story& s) { return !s.ends.empty(); });
  EXPECT_THAT(story.ends,
              ElementsAre("fenced: fenced: run digits-1a2b3 is at epoch 2, and ours is 1: "
                          "another coordinator has taken it over"));
  EXPECT_FALSE(shell_->WaitUntilDone(MonotonicNow() + 60s));
  shell_->Stop("too late");
  shell_.reset();
  EXPECT_EQ(Posts(), 3);
  EXPECT_EQ(api_.Count("DELETE " + Pod(1)), 0);
  EXPECT_EQ(heard_.story().ends.size(), 1U);
}

TEST_F(FleetShellTest, WhatWaitsForAThreadWhenTheFenceComesIsNotSentEither) {
  options_.request_threads = 1;
  Break("POST", [this](FakeExchange& exchange) {
    EXPECT_TRUE(api_.Await([this] { return !broken_; }));
    return FakeApi::Refuse(exchange, 403, "Forbidden", "no");
  });
  Start();
  ASSERT_TRUE(api_.Await([this] { return Posts() == 1; }));
  const auto second = *RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s);
  EXPECT_FALSE(record_->Put({{"status", "x"}}, MonotonicNow() + 60s));
  heard_.Await([](const Story& story) { return !story.ends.empty(); });
  broken_ = false;
  heard_.Await([](const Story&) { return false; }, 200ms);  // long enough for the next in the queue
  EXPECT_EQ(Posts(), 1);
}

TEST_F(FleetShellTest, AFenceThatAnotherWriteOfTheRecordMeetsIsSeenToo) {
  StartRunning();
  api_.RemoveRun();
  EXPECT_FALSE(record_->Put({{"status", "x"}}, MonotonicNow() + 60s));
  const Story story = heard_.Await([](const Story& s) { return !s.ends.empty(); });
  EXPECT_THAT(story.ends, ElementsAre("fenced: the run has been deleted: there is no ConfigMap "
                                      "digits-1a2b3 of it in namespace ml"));
}

TEST_F(FleetShellTest, AnEmptyListTakesNothingAndTwoListsTakeWhatBothLack) {
  options_.watch.relist_period = 50ms;
  StartRunning();
  shell_->MembersChanged({});
  // Every second one is wrong; one that is older than the last news of a pod says nothing about it.
  Break("GET pod", [this](FakeExchange& exchange) {
    if (!broken_ || ++count_ % 2 == 0) return Fault::kNone;
    exchange.Answer(200, fmt::format(R"({{"metadata":{{"resourceVersion":"{}"}},"items":[]}})",
                                     api_.version()));
    return Fault::kAnswered;
  });
  const std::string doubt = "fleet-list: a list lacks 3 of 3 pods; only a second one is believed";
  heard_.Await([&](const Story& story) { return story.Notes(doubt) > 1; });
  EXPECT_THAT(heard_.story().lost, IsEmpty());
  EXPECT_GT(heard_.story().Notes(doubt), 1);
  broken_ = false;
  api_.RemovePod(Pod(3), /*told=*/false);
  heard_.Await([](const Story& story) { return !story.lost.empty(); });
  EXPECT_THAT(heard_.story().lost, ElementsAre("workers-3 -1 0 two lists in a row lack it"));
  EXPECT_TRUE(AwaitPods({1, 2, 4}));
}

TEST_F(FleetShellTest, ACoordinatorThatIsStartedAgainListsTwiceBeforeItSaysAnything) {
  StartRunning();
  ASSERT_TRUE(api_.Await([this] {  // it is written in the background
    options_.saved = *FleetSavedFromJson(api_.run()["data"]["fleet"].get<std::string>());
    return options_.saved.started;
  }));
  shell_.reset();
  const int lists = api_.Count("GET pods");
  Heard second;
  {
    const auto record = *RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s);
    FleetShell shell(*client_, *record, options_, second);
    shell.MembersChanged(Slots({1, 2, 3}));
    const Story story = second.Await([](const Story& s) { return s.offered; });
    EXPECT_EQ(story.slots, Slots({1, 2, 3}));
    EXPECT_GE(api_.Count("GET pods"), lists + 2);
    EXPECT_THAT(story.lost, IsEmpty());
  }
  EXPECT_EQ(Posts(), 3);
}

TEST_F(FleetShellTest, ADeleteThatIsNotAnsweredIsSentAgain) {
  StartRunning();
  Break("DELETE", [this](FakeExchange& exchange) {
    if (++count_ > 4) return Fault::kNone;
    return FakeApi::Refuse(exchange, 503, "", "starting");
  });
  shell_->Stop("end");
  heard_.Await([](const Story& story) { return story.leaving.size() == 3; });
  ASSERT_TRUE(api_.Await([this] {
    return api_.Count("DELETE " + Pod(1)) + api_.Count("DELETE " + Pod(2)) +
               api_.Count("DELETE " + Pod(3)) >=
           7;
  }));
  for (const int serial : {1, 2, 3}) api_.RemovePod(Pod(serial));
  EXPECT_TRUE(shell_->WaitUntilDone(MonotonicNow() + 60s));
}

TEST_F(FleetShellTest, EndsAtOnceWhateverItWaitsFor) {
  for (const char* what : {"PATCH run", "POST", "WATCH", "GET pod"}) {
    api_.SetFault(nullptr);
    record_ = std::move(*RunRecord::TakeOver(*client_, "ml", kRun, MonotonicNow() + 60s));
    count_ = 0;
    Break(what, [this](FakeExchange&) {
      ++count_;
      return Fault::kSilence;
    });
    shell_ = std::make_unique<FleetShell>(*client_, *record_, options_, heard_);
    ASSERT_TRUE(api_.Await([this] { return count_ > 0; })) << what;
    const TimePoint begin = MonotonicNow();
    shell_.reset();
    EXPECT_LT(MonotonicNow() - begin, 5s) << what;
  }
}

}  // namespace
}  // namespace muster::kubernetes
