// Long answers of the gateway: events and logs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/gateway/gateway.h"
#include "launcher/gateway/testing/test_client.h"
#include "launcher/gateway/testing/test_job.h"

namespace muster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr seconds kPatience{60};

class GatewayStreamTest : public ::testing::Test {
 protected:
  GatewayStreamTest() {
    options_.secret = kTestSecret;
    options_.heartbeat = kPatience;  // none, unless the test is about it
  }

  void Begin() {
    auto gateway = Gateway::Create(options_, job_);
    ASSERT_TRUE(gateway) << gateway.error().message;
    gateway_ = std::move(*gateway);
  }
  void Emit(const std::string& line) {
    job_.Emit(line);
    gateway_->EventsChanged();
  }
  // One that follows the events, and has got the first one.
  TestClient Follower() {
    TestClient client(gateway_->port());
    client.Ask("GET", "/v1/events?follow=1");
    EXPECT_EQ(client.ReadHead(), 200);
    return client;
  }

  TestJob job_;
  GatewayOptions options_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayStreamTest, FollowsEventsAsTheyAreWrittenAndEndsWithTheJob) {
  Begin();
  Emit("one");
  TestClient client = Follower();
  EXPECT_EQ(client.headers["Transfer-Encoding"], "chunked");
  EXPECT_EQ(client.headers["Content-Type"], "application/jsonl");
  EXPECT_EQ(client.ReadChunk(), "one\n");
  for (const char* line : {"two", "three", "four"}) {
    Emit(line);
    EXPECT_EQ(client.ReadChunk(), std::string(line) + "\n") << "nothing is held back";
  }
  job_.Emit("five");
  job_.Finish("finished");
  gateway_->EventsChanged();
  EXPECT_EQ(client.ReadChunk(), "five\n");
  EXPECT_EQ(client.ReadChunk(), "finished\n");
  EXPECT_EQ(client.ReadChunk(), "") << "the stream ends as it should";
  EXPECT_TRUE(client.ReadsNothingMore());
  EXPECT_TRUE(gateway_->WaitUntilQuiet(MonotonicNow() + kPatience));
}

TEST_F(GatewayStreamTest, EndsAtOnceForWhoDoesNotFollow) {
  Begin();
  Emit("one");
  Emit("two");
  TestClient client(gateway_->port());
  client.Ask("GET", "/v1/events?after=1");
  EXPECT_EQ(client.ReadHead(), 200);
  EXPECT_EQ(client.ReadChunk(), "two\n");
  EXPECT_EQ(client.ReadChunk(), "");
}

TEST_F(GatewayStreamTest, SendsAnEmptyLineWhenNothingHappens) {
  options_.heartbeat = milliseconds(5);
  Begin();
  TestClient client = Follower();
  EXPECT_EQ(client.ReadChunk(), "\n");
  EXPECT_EQ(client.ReadChunk(), "\n");
  Emit("one");
  std::string chunk = client.ReadChunk();
  while (chunk == "\n") chunk = client.ReadChunk();
  EXPECT_EQ(chunk, "one\n");
}

TEST_F(GatewayStreamTest, LivesLongerThanOneWriteMayTake) {
  options_.write_deadline = seconds(2);
  options_.heartbeat = milliseconds(20);
  Begin();
  TestClient client = Follower();
  for (const TimePoint end = MonotonicNow() + milliseconds(2200); MonotonicNow() < end;)
    ASSERT_EQ(client.ReadChunk(), "\n");
  Emit(std::string(16 << 20, 'x'));  // more than can be written without a reader
  std::string chunk = client.ReadChunk();
  while (chunk == "\n") chunk = client.ReadChunk();
  EXPECT_EQ(chunk.size(), (16u << 20) + 1);
}

TEST_F(GatewayStreamTest, AShutdownCutsAllStreamsAtOnce) {
  Begin();
  std::vector<TestClient> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(Follower());
  EXPECT_FALSE(gateway_->WaitUntilQuiet(MonotonicNow()));
  const TimePoint begin = MonotonicNow();
  gateway_->Shutdown();
  EXPECT_LT(MonotonicNow() - begin, seconds(10)) << "far below any deadline of a stream";
  for (TestClient& client : clients) {
    EXPECT_EQ(client.ReadChunk(), "cut") << "whoever reads must see that this is not the end";
    EXPECT_TRUE(client.ReadsNothingMore());
  }
  EXPECT_TRUE(gateway_->WaitUntilQuiet(MonotonicNow()));
}

TEST_F(GatewayStreamTest, GivesThePlaceOfWhoHasGoneToTheNext) {
  options_.max_streams = 2;
  Begin();
  TestClient first = Follower();
  auto second = std::make_unique<TestClient>(Follower());
  TestClient third(gateway_->port());
  third.Ask("GET", "/v1/events?follow=1");
  EXPECT_EQ(third.ReadAnswer(), 503);
  EXPECT_THAT(third.body, HasSubstr("2 streams are open"));
  second.reset();
  int status = 503;
  for (const TimePoint deadline = MonotonicNow() + kPatience;
       status == 503 && MonotonicNow() < deadline;) {
    third.Ask("GET", "/v1/events?follow=1");
    status = third.ReadHead();
    if (status == 503) third.ReadBody();
  }
  EXPECT_EQ(status, 200);
  Emit("one");
  EXPECT_EQ(first.ReadChunk(), "one\n");
  EXPECT_EQ(third.ReadChunk(), "one\n");
}

TEST_F(GatewayStreamTest, CutsAReaderThatIsTooSlowAndHoldsNobodyUp) {
  options_.write_deadline = seconds(3);
  Begin();
  TestClient slow = Follower();
  TestClient quick = Follower();
  // More than the kernel keeps for a reader.
  const std::string line(1 << 20, 'x');
  for (int i = 0; i < 16; ++i) {
    Emit(line);
    EXPECT_EQ(quick.ReadChunk().size(), line.size() + 1);
  }
  job_.Finish("finished");
  gateway_->EventsChanged();
  EXPECT_EQ(quick.ReadChunk(), "finished\n");
  EXPECT_TRUE(gateway_->WaitUntilQuiet(MonotonicNow() + kPatience));
  std::string chunk = slow.ReadChunk();
  while (chunk.size() == line.size() + 1) chunk = slow.ReadChunk();
  EXPECT_NE(chunk, "finished\n");
}

TEST_F(GatewayStreamTest, SendsLogs) {
  Begin();
  TestClient client(gateway_->port());
  client.Ask("GET", "/v1/logs?worker=w-3&tail=2&follow=1");
  EXPECT_EQ(client.ReadHead(), 200);
  EXPECT_THAT(client.headers["Content-Type"], HasSubstr("text/plain"));
  EXPECT_EQ(client.ReadChunk(), "one\n");
  EXPECT_EQ(client.ReadChunk(), "tail 2");
  EXPECT_EQ(client.ReadChunk(), " follow");
  EXPECT_EQ(client.ReadChunk(), "");
}

}  // namespace
}  // namespace muster
