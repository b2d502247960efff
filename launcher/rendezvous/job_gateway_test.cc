// The gateway before a real coordinator shell, event log and job folder.
#include "launcher/rendezvous/job_gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/gateway/testing/test_client.h"
#include "launcher/rendezvous/coordinator_shell.h"
#include "launcher/rendezvous/journal.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The next outlet, which counts what reaches it.
class CountingOutlet final : public JobOutlet {
 public:
  void Send(const SendOrder&) override { ++orders; }
  void Send(const SendAgent&) override { ++orders; }
  void Send(const SetSlots&) override { ++orders; }
  void EventsChanged() override { ++events; }
  void Progress(const std::string&) override { ++progress; }
  void Finished(const std::string&) override { ++finished; }

  std::atomic<int> orders{0}, events{0}, progress{0}, finished{0};
};

class JobGatewayTest : public ::testing::Test {
 protected:
  JobGatewayTest() : folder_(MakeFolder()), events_(folder_.events()) {
    std::filesystem::create_directories(folder_.logs());
    journal_ = std::move(Journal::Open(folder_.journal()).value());
    CoordinatorOptions coordinator;
    coordinator.job = "test";
    coordinator.min_workers = 1;
    coordinator.max_workers = 4;
    shell_ = std::make_unique<CoordinatorShell>(
        ShellOptions{{"test", "local"}, coordinator, folder_, WallTime{}}, *journal_, events_);
    GatewayOptions options;
    options.secret = kTestSecret;
    gateway_ = std::move(JobGateway::Create(options, folder_, *shell_, outlet_).value());
  }
  ~JobGatewayTest() override {
    shell_->Stop();
    gateway_.reset();
    std::filesystem::remove_all(folder_.root());
  }

  static JobFolder MakeFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "muster-gateway-XXXXXX").string();
    return JobFolder(::mkdtemp(name.data()));
  }
  TestClient Ask(const std::string& method, const std::string& target,
                 const std::string& body = "") {
    TestClient client(gateway_->gateway().port());
    client.Ask(method, target, body);
    return client;
  }
  json Answer(int status, const std::string& method, const std::string& target,
              const std::string& body = "") {
    TestClient client = Ask(method, target, body);
    EXPECT_EQ(client.ReadAnswer(), status) << client.body;
    return json::parse(client.body, nullptr, false);
  }

  JobFolder folder_;
  EventLog events_;
  CountingOutlet outlet_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CoordinatorShell> shell_;
  std::unique_ptr<JobGateway> gateway_;
};

TEST_F(JobGatewayTest, SeesAJobFromItsStartToItsEnd) {
  shell_->Start(*gateway_);
  TestClient follower = Ask("GET", "/v1/events?follow=1");
  EXPECT_EQ(follower.ReadHead(), 200);
  EXPECT_EQ(Answer(200, "GET", "/v1/status")["max_workers"], 4);
  EXPECT_EQ(Answer(200, "POST", "/v1/resize", R"({"min":2,"max":3})"),
            (json{{"min_workers", 2}, {"max_workers", 3}}));
  const json status = Answer(200, "GET", "/v1/status");
  EXPECT_EQ(status["min_workers"], 2) << "the order has been carried out when it is answered";
  EXPECT_EQ(status["max_workers"], 3);
  EXPECT_EQ(Answer(200, "POST", "/v1/stop", R"({"now":true,"reason":"upgrade"})"),
            (json{{"stopping", true}, {"now", true}}));

  std::string all;
  std::string chunk = follower.ReadChunk();
  for (; !chunk.empty() && chunk != "cut"; chunk = follower.ReadChunk()) all += chunk;
  EXPECT_EQ(chunk, "") << "the stream ends as it should";
  EXPECT_THAT(all, StartsWith("{\"sequence\":1,"));
  EXPECT_THAT(all, HasSubstr("upgrade"));
  const size_t last = all.rfind('\n', all.size() - 2) + 1;
  EXPECT_EQ(json::parse(all.substr(last))["event"], "finished");
  EXPECT_EQ(all.substr(0, last), *ReadFile(folder_.events())) << "each event once";

  EXPECT_EQ(Answer(409, "POST", "/v1/resize", R"({"min":1,"max":2})")["code"],
            "failed precondition");
  EXPECT_EQ(Answer(200, "GET", "/v1/status")["phase"], "stopped");
  EXPECT_EQ(outlet_.finished, 1);
  EXPECT_GT(outlet_.events, 0);
  EXPECT_GT(outlet_.orders, 0);
  EXPECT_GT(outlet_.progress, 0);
}

TEST_F(JobGatewayTest, RefusesWhatTheJobRefuses) {
  shell_->Start(*gateway_);
  EXPECT_EQ(Answer(400, "POST", "/v1/resize", R"({"min":3,"max":2})")["code"], "invalid argument");
  shell_->Stop();
  EXPECT_EQ(Answer(503, "POST", "/v1/stop", "{}")["error"], "the coordinator is going away");
}

TEST_F(JobGatewayTest, GivesEventsAfterANumber) {
  for (int i = 1; i <= 40; ++i)
    events_.Append({"note", 1, "number " + std::to_string(i), std::nullopt}, WallTime{});
  const EventPage page = gateway_->EventsAfter(38, 16);
  EXPECT_EQ(page.lines.size(), 2u);
  EXPECT_EQ(page.last, 40u);
  EXPECT_FALSE(page.finished);
  EXPECT_EQ(gateway_->EventsAfter(0, 16).last, 16u);
  for (const uint64_t after : {uint64_t{40}, uint64_t{41}, UINT64_MAX}) {
    EXPECT_TRUE(gateway_->EventsAfter(after, 16).lines.empty()) << after;
    EXPECT_EQ(gateway_->EventsAfter(after, 16).last, after);
  }
  gateway_->Finished("{}");
  EXPECT_EQ(gateway_->EventsAfter(40, 16).finished, "{}");
}

TEST_F(JobGatewayTest, CountsChangesOnce) {
  MembershipChange change;
  change.steps_redone = 2;
  events_.Append({"membership", 1, "why", change}, WallTime{});
  events_.Append({"note", 1, "\"steps_redone\":7", std::nullopt}, WallTime{});
  EXPECT_EQ(gateway_->Figures().membership_changes, 1u);
  change.steps_redone = 1;
  events_.Append({"membership", 2, "why", change}, WallTime{});
  EXPECT_EQ(gateway_->Figures().membership_changes, 2u);
  EXPECT_EQ(gateway_->Figures().steps_redone, 3u);
  EXPECT_EQ(gateway_->Figures().workers_wanted, 4);
}

TEST_F(JobGatewayTest, GivesLogsThatAreHereAndSaysWhereOthersAre) {
  std::ofstream(folder_.WorkerLog("w-3")) << "one\ntwo\n";
  TestClient client = Ask("GET", "/v1/logs?worker=w-3&tail=1&follow=1");
  EXPECT_EQ(client.ReadHead(), 200);
  EXPECT_EQ(client.ReadChunk(), "two\n");
  std::ofstream(folder_.WorkerLog("w-3"), std::ios::app) << "three\n";
  EXPECT_EQ(client.ReadChunk(), "three\n");
  gateway_->Finished("{}");
  EXPECT_EQ(client.ReadChunk(), "") << "it ends with the job";

  const json error = Answer(404, "GET", "/v1/logs?worker=w-9");
  EXPECT_EQ(error["error"], "the coordinator has no output of w-9");
  EXPECT_THAT(error["hint"], HasSubstr("pod"));
  std::ofstream(folder_.root() / "x.log") << "secret";
  EXPECT_EQ(Answer(400, "GET", "/v1/logs?worker=../x")["code"], "invalid argument");
  EXPECT_EQ(Answer(400, "GET", "/v1/logs?worker=..%2Fx")["code"], "invalid argument");
}

}  // namespace
}  // namespace muster
