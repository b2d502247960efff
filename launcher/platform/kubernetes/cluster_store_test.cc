#include "launcher/platform/kubernetes/cluster_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/platform/kubernetes/objects.h"
#include "launcher/platform/kubernetes/testing/fake_api.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;
using nlohmann::json;
using ::testing::HasSubstr;

CoordinatorState State(uint64_t generation) {
  CoordinatorState state;
  state.last_generation = generation;
  state.slots = {"workers-1"};
  return state;
}

class ClusterStoreTest : public ::testing::Test {
 protected:
  void Refuse(int code, const std::string& reason) {
    api_.SetFault([code, reason](FakeExchange& exchange) {
      if (exchange.request().method != "PATCH") return Fault::kNone;
      return FakeApi::Refuse(exchange, code, reason, "not now");
    });
  }
  uint64_t Kept() {
    return json::parse(api_.run()["data"]["state"].get<std::string>())["last_generation"];
  }

  FakeApi api_{"run"};
  std::unique_ptr<k8s::ApiClient> client_ = api_.NewClient();
  std::unique_ptr<RunRecord> record_ =
      std::move(*RunRecord::TakeOver(*client_, "ml", "run", MonotonicNow() + 60s));
  std::unique_ptr<ClusterStore> store_ = std::move(*ClusterStore::Open(*record_));
};

TEST_F(ClusterStoreTest, WhateverTheServerRefusesNowItMayTakeLater) {
  ASSERT_TRUE(store_->Append(State(1)));
  for (const auto& [code, reason] : std::map<int, std::string>{
           {401, "Unauthorized"}, {403, "Forbidden"}, {500, "InternalError"}}) {
    Refuse(code, reason);
    const Status refused = store_->Append(State(2));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kUnavailable) << code;
    EXPECT_THAT(refused.error().message, HasSubstr("the API server does not take the state"));
    EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(code) + " " + reason));
    EXPECT_THAT(refused.error().hint, HasSubstr("look at the API server"));
    EXPECT_EQ(store_->state()->last_generation, 1U) << "as before";
  }
  api_.SetFault(nullptr);
  ASSERT_TRUE(store_->Append(State(2)));
  EXPECT_EQ(Kept(), 2U);
}

TEST_F(ClusterStoreTest, ARunThatIsNotOursAnyMoreIsNobodysToWaitFor) {
  api_.RemoveRun();
  const Status gone = store_->Append(State(1));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Code::kFailedPrecondition);
  EXPECT_THAT(gone.error().message, HasSubstr("has been deleted"));
}

TEST_F(ClusterStoreTest, AStateThatNeverFitsSaysWhatToDo) {
  CoordinatorState state = State(1);
  state.stop_reason = std::string(kMaxRecordBytes, 'x');
  const Status refused = store_->Append(state);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_THAT(refused.error().hint, HasSubstr("start with fewer"));
}

TEST_F(ClusterStoreTest, StopEndsAWaitForTheServer) {
  api_.SetFault([this](FakeExchange&) {
    store_->Stop();
    return Fault::kSilence;
  });
  const Status stopped = store_->Append(State(1));
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Code::kFailedPrecondition);
}

}  // namespace
}  // namespace muster::kubernetes
