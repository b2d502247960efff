#include "launcher/gateway/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/gateway/testing/test_client.h"
#include "launcher/gateway/testing/test_job.h"

namespace muster {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kShort{1};  // enough for a machine with other loads

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() { options_.secret = kTestSecret; }

  void Begin() {
    auto gateway = Gateway::Create(options_, job_);
    ASSERT_TRUE(gateway) << gateway.error().message;
    gateway_ = std::move(*gateway);
  }
  TestClient Client() { return TestClient(gateway_->port()); }
  int StatusOf(const std::string& method, const std::string& target, const std::string& body = "") {
    TestClient client = Client();
    client.Ask(method, target, body);
    return client.ReadAnswer();
  }
  // A gateway that has served others meanwhile is not held up.
  void ExpectItServes() { EXPECT_EQ(StatusOf("GET", "/v1/status"), 200); }

  TestJob job_;
  GatewayOptions options_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, AnswersOneRequestAfterTheOther) {
  Begin();
  TestClient client = Client();
  for (int i = 0; i < 3; ++i) {
    client.Ask("GET", "/v1/status");
    ASSERT_EQ(client.ReadAnswer(), 200);
    EXPECT_EQ(client.headers["Content-Type"], "application/json");
    EXPECT_EQ(json::parse(client.body)["phase"], "running");
  }
  client.Ask("POST", "/v1/resize", R"({"min":2,"max":8})");
  EXPECT_EQ(client.ReadAnswer(), 200);
  client.Ask("DELETE", "/v1/status");
  EXPECT_EQ(client.ReadAnswer(), 405);
  EXPECT_EQ(client.headers["Allow"], "GET");
  client.Ask("GET", "/metrics");
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_THAT(client.body, HasSubstr("muster_http_requests_total{code=\"200\"} 4\n"
                                     "muster_http_requests_total{code=\"405\"} 1\n"));
  EXPECT_THAT(job_.orders(), ElementsAre("resize 2:8"));
}

TEST_F(GatewayTest, AnswersRequestsThatComeAtOnce) {
  Begin();
  TestClient client = Client();
  const std::string request =
      "GET /v1/status HTTP/1.1\r\nHost: test\r\nX-Muster-Secret: " + kTestSecret + "\r\n\r\n";
  client.Send(request + request + "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_EQ(client.body, "ok\n");
  client.StopSending();
  EXPECT_TRUE(client.ReadsNothingMore());
}

TEST_F(GatewayTest, RefusesTheWrongSecretBeforeItReadsABody) {
  Begin();
  TestClient client = Client();
  client.Send("POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + std::string(64, 'b') +
              "\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(client.ReadAnswer(), 401) << "the body has not been sent";
  EXPECT_EQ(client.headers["Connection"], "close");
  TestClient without = Client();
  without.Send("GET /v1/status HTTP/1.1\r\n\r\n");
  EXPECT_EQ(without.ReadAnswer(), 401);
  EXPECT_EQ(json::parse(without.body)["code"], "unauthenticated");
  EXPECT_THAT(job_.orders(), ElementsAre());
}

TEST_F(GatewayTest, SaysWhenItIsReady) {
  Begin();
  EXPECT_EQ(StatusOf("GET", "/readyz"), 503);
  gateway_->SetReady();
  EXPECT_EQ(StatusOf("GET", "/readyz"), 200);
}

TEST_F(GatewayTest, RefusesABodyThatIsTooLarge) {
  Begin();
  EXPECT_EQ(StatusOf("POST", "/v1/stop", std::string(17 << 10, ' ')), 413);
  TestClient chunked = Client();
  chunked.Send("POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + kTestSecret +
               "\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunked.Send("400\r\n" + std::string(1024, ' ') + "\r\n");
  EXPECT_EQ(chunked.ReadAnswer(), 413);
  EXPECT_EQ(StatusOf("POST", "/v1/stop", "{}" + std::string((16 << 10) - 2, ' ')), 200)
      << "what is just not too large";
}

TEST_F(GatewayTest, TakesAChunkThatIsLargerThanOtherBodies) {
  Begin();
  const std::string chunk(2 << 20, 'x');
  EXPECT_EQ(StatusOf("POST", "/v1/chunk?hash=ab", chunk), 200);
  EXPECT_THAT(job_.orders(), ElementsAre("chunk ab of 2097152"));
  EXPECT_EQ(StatusOf("POST", "/v1/chunk?hash=ab", std::string((3 << 20) + 1, 'x')), 413);
  EXPECT_EQ(StatusOf("POST", "/v1/stop", chunk), 413);
  TestClient client = Client();
  client.Ask("POST", "/v1/chunk?hash=ab", chunk);
  EXPECT_EQ(client.ReadAnswer(), 200);
  client.Ask("POST", "/v1/stop", std::string(17 << 10, ' '));
  EXPECT_EQ(client.ReadAnswer(), 413) << "the next request of the same client has its own limit";
}

TEST_F(GatewayTest, GivesAChunkMoreTimeThanOtherRequests) {
  options_.request_deadline = kShort;
  options_.chunk_deadline = std::chrono::seconds(60);
  Begin();
  TestClient chunk = Client();
  chunk.Send("POST /v1/chunk?hash=ab HTTP/1.1\r\nX-Muster-Secret: " + kTestSecret +
             "\r\nContent-Length: 2\r\n\r\n{");
  TestClient other = Client();
  other.Send("POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + kTestSecret +
             "\r\nContent-Length: 2\r\n\r\n{");
  EXPECT_TRUE(other.ReadsNothingMore());
  chunk.Send("}");
  EXPECT_EQ(chunk.ReadAnswer(), 200);
}

TEST_F(GatewayTest, LetsARefusedClientFinishItsSentence) {
  Begin();
  TestClient client = Client();
  client.Send("POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + kTestSecret +
              "\r\nContent-Length: 8000000\r\n\r\n");
  // Most clients read the answer only then, and give up if they cannot send.
  EXPECT_TRUE(client.Send(std::string(8'000'000, ' ')));
  EXPECT_EQ(client.ReadAnswer(), 413);
}

TEST_F(GatewayTest, RefusesAHeaderThatIsTooLong) {
  Begin();
  TestClient client = Client();
  client.Send("GET /healthz HTTP/1.1\r\nX-Long: " + std::string(9 << 10, 'a') + "\r\n\r\n");
  EXPECT_EQ(client.ReadAnswer(), 431);
  EXPECT_THAT(client.body, HasSubstr("longer than 8192 bytes"));
}

TEST_F(GatewayTest, RefusesWhatIsNoHttp) {
  Begin();
  for (const char* text : {"hello\r\n\r\n", "GET /healthz HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\r\n",
                           "GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n"}) {
    TestClient client = Client();
    client.Send(text);
    EXPECT_EQ(client.ReadAnswer(), 400) << text;
    EXPECT_TRUE(json::accept(client.body)) << client.body;
  }
  ExpectItServes();
}

TEST_F(GatewayTest, CutsAClientThatSendsTooSlowly) {
  options_.request_deadline = kShort;
  Begin();
  TestClient silent = Client();
  TestClient slow = Client();
  slow.Send("GET /v1/status HTTP/1.1\r\n");
  TestClient slow_body = Client();
  slow_body.Send("POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + kTestSecret +
                 "\r\nContent-Length: 2\r\n\r\n{");
  EXPECT_TRUE(silent.ReadsNothingMore());
  EXPECT_TRUE(slow.ReadsNothingMore());
  EXPECT_TRUE(slow_body.ReadsNothingMore());
  // One byte after the other does not help: the deadline is that of the whole request.
  TestClient drip = Client();
  drip.Send("GET /v1/status HTTP/1.1\r\nX-Long: ");
  while (!drip.HasNews(20)) drip.Send("a");
  EXPECT_TRUE(drip.ReadsNothingMore());
  TestClient last = Client();
  last.Ask("GET", "/metrics");
  EXPECT_EQ(last.ReadAnswer(), 200);
  EXPECT_THAT(last.body, HasSubstr("{code=\"408\"} 3"));
}

TEST_F(GatewayTest, ClosesAConnectionThatIsIdle) {
  options_.idle_deadline = kShort;
  Begin();
  TestClient client = Client();
  client.Ask("GET", "/healthz");
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_TRUE(client.ReadsNothingMore());
}

TEST_F(GatewayTest, DoesNotWaitForAJobThatIsSilent) {
  options_.answer_deadline = kShort;
  job_.FallSilent();
  Begin();
  TestClient client = Client();
  client.Ask("POST", "/v1/stop", "{}");
  EXPECT_EQ(client.ReadAnswer(), 504);
  for (const auto& done : job_.TakeUnanswered()) done(std::string("{}"));
  client.Ask("GET", "/v1/status");
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_THAT(client.body, HasSubstr("running")) << "the late answer has been dropped";
}

TEST_F(GatewayTest, AnAnswerMayComeWhenTheGatewayIsGone) {
  job_.FallSilent();
  Begin();
  TestClient client = Client();
  client.Ask("POST", "/v1/stop", "{}");
  while (job_.orders().empty()) {
  }
  gateway_.reset();
  EXPECT_TRUE(client.ReadsNothingMore());
  for (const auto& done : job_.TakeUnanswered()) done(std::string("{}"));
}

TEST_F(GatewayTest, RefusesConnectionsAboveItsLimitButAnswersProbes) {
  options_.max_connections = 3;
  Begin();
  std::vector<TestClient> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Client());
    clients.back().Ask("GET", "/healthz");
    ASSERT_EQ(clients.back().ReadAnswer(), 200);
  }
  for (int i = 0; i < 40; ++i) {
    TestClient one_more = Client();
    one_more.Ask("GET", "/v1/status");
    ASSERT_EQ(one_more.ReadAnswer(), 503) << i;
    EXPECT_EQ(json::parse(one_more.body)["code"], "resource exhausted");
    EXPECT_EQ(one_more.headers["Connection"], "close");
  }
  EXPECT_EQ(StatusOf("GET", "/healthz"), 200) << "a probe must not fail because others are there";
  clients[0].Ask("GET", "/v1/status");
  EXPECT_EQ(clients[0].ReadAnswer(), 200) << "those that are served go on";
}

TEST_F(GatewayTest, ServesThoseInTheQueueWhenOthersHaveGone) {
  options_.max_connections = 1;
  options_.request_deadline = options_.idle_deadline = kShort;
  Begin();
  std::vector<TestClient> silent;
  for (size_t i = 0; i < 3 * Gateway::kSpareConnections; ++i) silent.push_back(Client());
  TestClient probe = Client();
  probe.Ask("GET", "/healthz");
  EXPECT_EQ(probe.ReadAnswer(), 200);
}

TEST_F(GatewayTest, RefusesOptionsOutOfRange) {
  const auto refused = [&](auto change) {
    GatewayOptions options = options_;
    change(options);
    const auto gateway = Gateway::Create(options, job_);
    return gateway ? "" : gateway.error().message;
  };
  EXPECT_THAT(refused([](auto& o) { o.port = 70'000; }), HasSubstr("port is 70000"));
  EXPECT_THAT(refused([](auto& o) { o.secret = "short"; }), HasSubstr("5 characters"));
  EXPECT_THAT(refused([](auto& o) { o.max_streams = 0; }), HasSubstr("max_streams"));
  EXPECT_THAT(refused([](auto& o) { o.heartbeat = {}; }), HasSubstr("longer than 0"));
  EXPECT_THAT(refused([](auto& o) { o.address = "here"; }), HasSubstr("here is no IP address"));
  Begin();
  EXPECT_THAT(refused([&](auto& o) { o.port = gateway_->port(); }), HasSubstr("cannot listen on"));
}

}  // namespace
}  // namespace muster
