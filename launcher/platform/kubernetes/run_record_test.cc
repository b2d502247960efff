#include "launcher/platform/kubernetes/run_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "launcher/platform/kubernetes/testing/fake_api.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;
using nlohmann::json;
using ::testing::HasSubstr;

class RunRecordTest : public ::testing::Test {
 protected:
  static TimePoint Soon() { return MonotonicNow() + 60s; }
  Result<std::unique_ptr<RunRecord>> TryTakeOver() {
    return RunRecord::TakeOver(*client_, "ml", "run", Soon());
  }
  std::unique_ptr<RunRecord> TakeOver() {
    auto record = TryTakeOver();
    EXPECT_TRUE(record) << record.error().message;
    return std::move(*record);
  }
  static Status Put(RunRecord& record, const std::string& key, const std::string& value) {
    return record.Put({{key, value}}, Soon());
  }
  // The next `count` requests of that method get `fault`.
  void Break(const std::string& method, Fault fault, int count = 1) {
    api_.SetFault([this, method, fault, count](FakeExchange& exchange) {
      if (exchange.request().method != method || broken_ == count) return Fault::kNone;
      ++broken_;
      return fault;
    });
  }
  json Data() { return api_.run()["data"]; }

  std::atomic<int> broken_ = 0;
  FakeApi api_{"run"};
  std::unique_ptr<k8s::ApiClient> client_ = api_.NewClient();
};

TEST_F(RunRecordTest, EachWhoTakesItOverHasAnEpochOfItsOwn) {
  const auto first = TakeOver();
  EXPECT_EQ(first->epoch(), 1U);
  EXPECT_EQ(first->uid(), "uid-run");
  EXPECT_EQ(first->data(), (std::map<std::string, std::string>{{"epoch", "1"}, {"image", "i"}}));
  EXPECT_EQ(TakeOver()->epoch(), 2U);
  EXPECT_EQ(Data()["epoch"], "2");
}

TEST_F(RunRecordTest, WritesKeysAndLeavesOthers) {
  const auto record = TakeOver();
  ASSERT_TRUE(Put(*record, "fleet", "a"));
  ASSERT_TRUE(record->Put({{"fleet", "b"}, {"state", "c"}}, Soon()));
  EXPECT_EQ(Data(), (json{{"epoch", "1"}, {"image", "i"}, {"fleet", "b"}, {"state", "c"}}));
}

TEST_F(RunRecordTest, TheSecondFencesTheFirstForGood) {
  const auto first = TakeOver();
  const auto second = TakeOver();
  EXPECT_TRUE(first->Ours()) << "it cannot know yet";
  const Status refused = Put(*first, "fleet", "old");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(refused.error().message,
            "fenced: run run is at epoch 2, and ours is 1: another coordinator has taken it over");
  const size_t requests = api_.log().size();
  EXPECT_EQ(Put(*first, "fleet", "old").error().code, Code::kFailedPrecondition);
  EXPECT_EQ(first->Ours().error().code, Code::kFailedPrecondition);
  EXPECT_EQ(api_.log().size(), requests) << "it does not even ask";
  EXPECT_TRUE(Put(*second, "fleet", "new"));
  EXPECT_EQ(Data()["fleet"], "new");
}

TEST_F(RunRecordTest, WhatOthersWriteInBetweenDoesNotFence) {
  const auto record = TakeOver();
  api_.MergeRun({{"metadata", {{"annotations", {{"note", "x"}}}}}});
  EXPECT_TRUE(Put(*record, "fleet", "a"));
  EXPECT_EQ(Data()["fleet"], "a");
  EXPECT_EQ(api_.run()["metadata"]["annotations"]["note"], "x");
}

TEST_F(RunRecordTest, ALostAnswerIsNotTakenForAnothersWrite) {
  const auto record = TakeOver();
  Break("PATCH", Fault::kLostAnswer, 2);
  EXPECT_TRUE(Put(*record, "fleet", "a"));
  EXPECT_TRUE(Put(*record, "fleet", "b"));
  EXPECT_EQ(Data()["fleet"], "b");
}

// Whose epoch that is, its reader cannot know.
TEST_F(RunRecordTest, ATakeOverWhoseAnswerGotLostTakesAnotherEpoch) {
  Break("PATCH", Fault::kLostAnswer);
  const auto record = TakeOver();
  EXPECT_EQ(record->epoch(), 2U);
  EXPECT_TRUE(Put(*record, "fleet", "a"));
}

TEST_F(RunRecordTest, DeletionIsToldApartFromA404OfSomethingInBetween) {
  const auto record = TakeOver();
  api_.SetFault([](FakeExchange& exchange) {
    exchange.Answer(404, "<html>not here</html>");
    return Fault::kAnswered;
  });
  EXPECT_EQ(Put(*record, "fleet", "a").error().code, Code::kUnavailable);
  EXPECT_TRUE(record->Ours());
  api_.SetFault(nullptr);
  EXPECT_TRUE(Put(*record, "fleet", "a"));
  api_.RemoveRun();
  const Status gone = Put(*record, "fleet", "b");
  EXPECT_EQ(gone.error().code, Code::kNotFound);
  EXPECT_EQ(gone.error().message,
            "the run has been deleted: there is no ConfigMap run of it in namespace ml");
  EXPECT_EQ(record->Ours().error().code, Code::kNotFound);
  EXPECT_EQ(TryTakeOver().error().code, Code::kNotFound);
}

TEST_F(RunRecordTest, ARunThatIsBeingDeletedOrIsAnotherOfThatNameCountsAsDeleted) {
  const auto first = TakeOver();
  api_.MergeRun({{"metadata", {{"deletionTimestamp", "2026-01-01T00:00:00Z"}}}});
  EXPECT_EQ(Put(*first, "fleet", "a").error().code, Code::kNotFound);
  EXPECT_EQ(TryTakeOver().error().code, Code::kNotFound);
  api_.MergeRun({{"metadata", {{"deletionTimestamp", nullptr}}}});
  const auto second = TakeOver();
  api_.MergeRun({{"metadata", {{"uid", "uid-another"}}}});
  EXPECT_EQ(Put(*second, "fleet", "a").error().code, Code::kNotFound);
}

TEST_F(RunRecordTest, WhatDoesNotFitIsRefusedBeforeItIsSent) {
  const auto record = TakeOver();
  ASSERT_TRUE(Put(*record, "events", std::string(1'000'000, 'e')));
  const size_t requests = api_.log().size();
  const Status refused = Put(*record, "state", std::string(60'000, 's'));
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_EQ(refused.error().message,
            "ConfigMap run: state (60000 bytes) do not fit: it holds 1048576 bytes in all, and "
            "1000002 are taken");
  EXPECT_EQ(Put(*record, "state", "\xff").error().code, Code::kInvalidArgument);
  EXPECT_EQ(api_.log().size(), requests);
  // What a value replaces makes room.
  EXPECT_TRUE(record->Put({{"events", "e"}, {"state", std::string(1'000'000, 's')}}, Soon()));
}

TEST_F(RunRecordTest, AServerThatIsSilentCostsTheDeadlineOnly) {
  const auto record = TakeOver();
  Break("PATCH", Fault::kSilence, 1);
  auto stalled = std::async(std::launch::async, [&] {
    return record->Put({{"fleet", "a"}}, MonotonicNow() + 300ms);
  });
  ASSERT_TRUE(api_.Await([&] { return broken_ == 1; }));
  EXPECT_EQ(record->Put({{"state", "b"}}, MonotonicNow() + 10ms).error().message,
            "ConfigMap run: an earlier write is still under way");
  EXPECT_EQ(stalled.get().error().code, Code::kDeadlineExceeded);
  EXPECT_TRUE(Put(*record, "state", "c"));
}

TEST_F(RunRecordTest, AStopEndsAWriteThatStalls) {
  const auto record = TakeOver();
  Break("PATCH", Fault::kSilence, 1);
  std::stop_source stop;
  auto stalled = std::async(std::launch::async, [&] {
    return record->Put({{"fleet", "a"}}, Soon(), stop.get_token());
  });
  ASSERT_TRUE(api_.Await([&] { return broken_ == 1; }));
  stop.request_stop();
  EXPECT_EQ(stalled.get().error().code, Code::kCancelled);
}

TEST_F(RunRecordTest, ManyThreadsWriteWithoutLosingAnything) {
  const auto record = TakeOver();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        for (int j = 0; j < 10; ++j) {
          EXPECT_TRUE(Put(*record, fmt::format("key-{}", i), std::to_string(j)));
        }
      });
    }
  }
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Data()[fmt::format("key-{}", i)], "9");
  EXPECT_EQ(api_.Count("PATCH run"), 81) << "none has met a conflict";
}

TEST_F(RunRecordTest, AnEpochThatIsNoNumberIsNotTakenForNone) {
  api_.MergeRun({{"data", {{"epoch", "1x"}}}});
  EXPECT_EQ(TryTakeOver().error().code, Code::kDataLoss);
  EXPECT_THAT(TryTakeOver().error().message, HasSubstr("its epoch is \"1x\""));
}

}  // namespace
}  // namespace muster::kubernetes
