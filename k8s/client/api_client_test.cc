#include "k8s/client/api_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>

#include "k8s/client/testing/fake_server.h"
#include "runtime/base/files.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string StatusBody(int code, const std::string& reason, const std::string& message) {
  return json{{"kind", "Status"}, {"code", code}, {"reason", reason}, {"message", message}}.dump();
}

std::string ListBody(const std::vector<std::string>& names, const std::string& version,
                     const std::string& next) {
  json items = json::array();
  for (const std::string& name : names) {
    items.push_back({{"metadata", {{"name", name}, {"managedFields", json::array({1})}}}});
  }
  return json{{"kind", "PodList"},
              {"metadata", {{"resourceVersion", version}, {"continue", next}}},
              {"items", items}}
      .dump();
}

class ApiClientTest : public ::testing::Test {
 protected:
  ApiClientTest() { Connect({}); }

  void Connect(User user) {
    ClientConfig config;
    config.cluster.server = server_.url();
    config.user = std::move(user);
    ApiClientOptions options;
    options.backoff = {.first = 1ms, .cap = 4ms};
    client_ = std::move(*ApiClient::Create(config, options));
  }
  static Call Soon() { return {.deadline = MonotonicNow() + 60s}; }
  std::vector<std::string> Targets() {
    std::vector<std::string> targets;
    for (const FakeRequest& r : server_.requests()) targets.push_back(r.method + " " + r.target);
    return targets;
  }
  Result<json> GetPod() { return client_->Get({kPods, "ml", "w-1"}, Soon()); }

  FakeServer server_;
  std::unique_ptr<ApiClient> client_;
};

TEST_F(ApiClientTest, GetsAnObject) {
  server_.ThenAnswer(200, R"({"metadata":{"name":"w-1"}})");
  const Result<json> pod = GetPod();
  ASSERT_TRUE(pod) << pod.error().ToString();
  EXPECT_EQ((*pod)["metadata"]["name"], "w-1");
  EXPECT_THAT(Targets(), ElementsAre("GET /api/v1/namespaces/ml/pods/w-1"));
}

TEST_F(ApiClientTest, ListsInPagesAndDropsWhatNobodyReads) {
  server_.ThenAnswer(200, ListBody({"a", "b"}, "7", "t/1"));
  server_.ThenAnswer(200, ListBody({"c"}, "7", ""));
  const auto list = client_->List(kPods, "ml", {.label_selector = "run=x", .page_size = 2}, Soon());
  ASSERT_TRUE(list) << list.error().ToString();
  EXPECT_EQ(list->items.size(), 3U);
  EXPECT_EQ(list->items[2].dump(), R"({"metadata":{"name":"c"}})");
  EXPECT_EQ(list->resource_version, "7");
  EXPECT_THAT(Targets(), ElementsAre("GET /api/v1/namespaces/ml/pods?labelSelector=run%3Dx&limit=2",
                                     "GET /api/v1/namespaces/ml/pods?labelSelector=run%3Dx&limit=2"
                                     "&continue=t%2F1"));
}

TEST_F(ApiClientTest, AListWhoseMomentIsForgottenStartsAgain) {
  server_.ThenAnswer(200, ListBody({"a", "gone"}, "7", "t"));
  server_.ThenAnswer(410, StatusBody(410, "Expired", "the token is too old"));
  server_.ThenAnswer(200, ListBody({"a"}, "9", "u"));
  server_.ThenAnswer(200, ListBody({"b"}, "9", ""));
  const auto list = client_->List(kPods, "ml", {}, Soon());
  ASSERT_TRUE(list) << list.error().ToString();
  EXPECT_EQ(list->items.size(), 2U);
  EXPECT_EQ(list->items[1]["metadata"]["name"], "b");
  EXPECT_EQ(list->resource_version, "9");
}

TEST_F(ApiClientTest, AListThatIsForgottenAgainAndAgainIsAnError) {
  server_.Otherwise([](FakeExchange& exchange) {
    const bool first = exchange.request().target.find("continue") == std::string::npos;
    first ? exchange.Answer(200, ListBody({"a"}, "7", "t"))
          : exchange.Answer(410, StatusBody(410, "Expired", ""));
  });
  const auto list = client_->List(kPods, "ml", {}, Soon());
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().code, Code::kOutOfRange);
  EXPECT_EQ(Targets().size(), 8U);
}

TEST_F(ApiClientTest, AnErrorIsNeverAnEmptyList) {
  server_.ThenAnswer(200, "{}");
  server_.ThenAnswer(200, "<html>sign in</html>", {"Content-Type: text/html"});
  server_.ThenAnswer(200, R"({"items":"none"})");
  server_.ThenAnswer(200, R"({"items":[{"a)");
  for (int i = 0; i < 4; ++i) {
    const auto list = client_->List(kPods, "ml", {}, Soon());
    ASSERT_FALSE(list);
    EXPECT_EQ(list.error().code, Code::kDataLoss);
  }
}

TEST_F(ApiClientTest, WritesSayWhatTheyAre) {
  server_.Otherwise([](FakeExchange& exchange) { exchange.Answer(200, "{}"); });
  const ObjectRef config{kConfigMaps, "ml", "run"};
  const json content = {{"a", 1}};
  ASSERT_TRUE(client_->Create({kPods, "ml"}, content, {}, Soon()));
  ASSERT_TRUE(
      client_->Create({kPods, "ml", "w-1", "eviction"}, content, {.dry_run = true}, Soon()));
  ASSERT_TRUE(client_->Replace({kLeases, "ml", "l"}, content, {}, Soon()));
  ASSERT_TRUE(client_->Patch(config, PatchKind::kMerge, content, {}, Soon()));
  ASSERT_TRUE(client_->Patch(config, PatchKind::kStrategic, content, {}, Soon()));
  ASSERT_TRUE(
      client_->Patch({kNodes, "", "n", "status"}, PatchKind::kJson, json::array(), {}, Soon()));
  ASSERT_TRUE(client_->Apply(config, content, true, {.field_manager = "me"}, Soon()));
  ASSERT_TRUE(client_->Delete({kJobs, "ml", "j"},
                              {.uid = "u", .propagation = "Foreground", .grace_period_seconds = 0},
                              Soon()));
  EXPECT_THAT(
      Targets(),
      ElementsAre("POST /api/v1/namespaces/ml/pods?fieldManager=muster",
                  "POST /api/v1/namespaces/ml/pods/w-1/eviction?dryRun=All&fieldManager=muster",
                  "PUT /apis/coordination.k8s.io/v1/namespaces/ml/leases/l?fieldManager=muster",
                  "PATCH /api/v1/namespaces/ml/configmaps/run?fieldManager=muster",
                  "PATCH /api/v1/namespaces/ml/configmaps/run?fieldManager=muster",
                  "PATCH /api/v1/nodes/n/status?fieldManager=muster",
                  "PATCH /api/v1/namespaces/ml/configmaps/run?fieldManager=me&force=true",
                  "DELETE /apis/batch/v1/namespaces/ml/jobs/j"));
  EXPECT_EQ(json::parse(server_.requests()[6].body),
            (json{{"a", 1}, {"metadata", {{"name", "run"}}}}))
      << "an object to apply has its name in it";
  std::vector<std::string> types;
  for (const FakeRequest& request : server_.requests())
    types.push_back(request.headers.at("content-type"));
  EXPECT_THAT(types,
              ElementsAre("application/json", "application/json", "application/json",
                          "application/merge-patch+json", "application/strategic-merge-patch+json",
                          "application/json-patch+json", "application/apply-patch+yaml",
                          "application/json"));
  EXPECT_EQ(json::parse(server_.requests().back().body), json::parse(R"({
    "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u"},
    "propagationPolicy": "Foreground", "gracePeriodSeconds": 0})"));
  const json not_utf8 = {{"a", "\xff"}};
  EXPECT_EQ(client_->Create({kPods, "ml"}, not_utf8, {}, Soon()).error().code,
            Code::kInvalidArgument);
}

TEST_F(ApiClientTest, ABusyServerIsAskedAgainUntilItAnswers) {
  server_.ThenAnswer(429, StatusBody(429, "TooManyRequests", "slow down"));
  server_.ThenAnswer(503, "upstream connect error");
  server_.Then([](FakeExchange& exchange) { exchange.Close(); });
  server_.Then([](FakeExchange& exchange) {
    exchange.Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half");
    exchange.Close();
  });
  server_.ThenAnswer(500, StatusBody(500, "InternalError", "etcd"));
  server_.ThenAnswer(200, "{}");
  const Result<json> pod = GetPod();
  EXPECT_TRUE(pod) << pod.error().ToString();
}

TEST_F(ApiClientTest, RetryAfterBeyondTheDeadlineIsNotWaitedFor) {
  server_.ThenAnswer(429, StatusBody(429, "TooManyRequests", "slow down"), {"Retry-After: 3600"});
  const Result<json> pod = GetPod();
  ASSERT_FALSE(pod);
  EXPECT_EQ(pod.error().code, Code::kResourceExhausted);
  EXPECT_EQ(pod.error().message,
            "GET /api/v1/namespaces/ml/pods/w-1: 429 TooManyRequests: slow down");
}

TEST_F(ApiClientTest, AnErrorThatStaysIsNotAskedForEver) {
  server_.Otherwise([](FakeExchange& exchange) {
    exchange.Answer(500, StatusBody(500, "InternalError", "the webhook is broken"));
  });
  const Result<json> pod = GetPod();
  ASSERT_FALSE(pod);
  EXPECT_THAT(pod.error().message, HasSubstr("the webhook is broken"));
  EXPECT_EQ(Targets().size(), 4U);
}

TEST_F(ApiClientTest, RefusalsAreNotAskedAgain) {
  for (const int status : {400, 403, 404, 409, 410, 422}) {
    server_.ThenAnswer(status, StatusBody(status, "Reason", "no"));
    EXPECT_FALSE(GetPod());
  }
  EXPECT_EQ(Targets().size(), 6U);
}

TEST_F(ApiClientTest, AStopTokenEndsTheWaitForTheNextAttempt) {
  server_.ThenAnswer(503, "", {"Retry-After: 30"});
  std::stop_source stop;
  Call call = Soon();
  call.stop = stop.get_token();
  auto pod = std::async(std::launch::async, [&] { return client_->Get({kPods, "ml", "w"}, call); });
  ASSERT_TRUE(server_.AwaitRequests(1));
  const TimePoint stopped = MonotonicNow();
  stop.request_stop();
  const Result<json> result = pod.get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kCancelled);
  EXPECT_LT(MonotonicNow() - stopped, 20s);
}

TEST_F(ApiClientTest, ARefusedTokenIsReadAgainOnce) {
  std::string pattern = ::testing::TempDir() + "/token-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(pattern.data());
  ASSERT_TRUE(WriteFileAtomically(folder / "token", "old"));
  Connect({.token_file = folder / "token"});
  server_.ThenAnswer(200, "{}");
  server_.Then([&](FakeExchange& exchange) {
    EXPECT_TRUE(WriteFileAtomically(folder / "token", "new"));
    exchange.Answer(401, StatusBody(401, "Unauthorized", "Unauthorized"));
  });
  server_.ThenAnswer(200, "{}");
  EXPECT_TRUE(GetPod());
  EXPECT_TRUE(GetPod());
  EXPECT_EQ(server_.requests().at(2).headers.at("authorization"), "Bearer new");

  server_.ThenAnswer(401, StatusBody(401, "Unauthorized", "Unauthorized"));
  server_.ThenAnswer(401, StatusBody(401, "Unauthorized", "Unauthorized"));
  const Result<json> refused = GetPod();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnauthenticated);
  std::filesystem::remove_all(folder);
}

TEST_F(ApiClientTest, SpeaksInTheNameOfAnother) {
  Connect({.username = "me",
           .password = "pw",
           .impersonate = "boss",
           .impersonate_groups = {"g"},
           .impersonate_extra = {{"a/b", {"1"}}}});
  server_.ThenAnswer(200, "{}");
  EXPECT_TRUE(GetPod());
  const auto headers = server_.requests().at(0).headers;
  EXPECT_EQ(headers.at("authorization"), "Basic bWU6cHc=");
  EXPECT_EQ(headers.at("impersonate-user"), "boss");
  EXPECT_EQ(headers.at("impersonate-group"), "g");
  EXPECT_EQ(headers.at("impersonate-extra-a%2fb"), "1");
}

TEST_F(ApiClientTest, FollowsALog) {
  server_.Then([](FakeExchange& exchange) {
    exchange.Start(200, {"Content-Type: text/plain"});
    exchange.Chunk("line 1\n");
    exchange.AwaitClientGone();
  });
  const auto log =
      client_->PodLog("ml", "w-1", {.container = "main", .follow = true, .tail_lines = 5}, Soon());
  ASSERT_TRUE(log) << log.error().ToString();
  EXPECT_EQ((*log)->Read(Soon().deadline), "line 1\n");
  EXPECT_THAT(Targets(),
              ElementsAre("GET /api/v1/namespaces/ml/pods/w-1/log?container=main&follow=true"
                          "&tailLines=5"));
}

TEST_F(ApiClientTest, ALogThatIsNotThereYetIsAnErrorWithTheServersWords) {
  server_.ThenAnswer(400, StatusBody(400, "BadRequest", "container main is waiting to start"));
  const auto log = client_->PodLog("ml", "w-1", {}, Soon());
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Code::kInvalidArgument);
  EXPECT_THAT(log.error().message, HasSubstr("container main is waiting to start"));
}

TEST_F(ApiClientTest, ReachesAServiceWhoseAnswersAreItsOwn) {
  const ProxyTarget target{"ml", "run", "8080"};
  server_.ThenAnswer(404, R"({"error":"no such job"})");
  server_.ThenAnswer(200, "done", {"Content-Type: text/plain"});
  server_.ThenAnswer(503, StatusBody(503, "ServiceUnavailable", "no endpoints available"));
  const auto own = client_->ProxyGet(target, "/status?x=1", Soon());
  ASSERT_TRUE(own) << own.error().ToString();
  EXPECT_EQ(own->head.status, 404);
  const auto posted = client_->ProxyPost(target, "/stop", "{}", Soon());
  ASSERT_TRUE(posted);
  EXPECT_EQ(posted->body, "done");
  // Not sent again: the service may have stopped already.
  const auto failed = client_->ProxyPost(target, "/stop", "{}", Soon());
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::kUnavailable);
  EXPECT_THAT(failed.error().message, HasSubstr("no endpoints available"));
  EXPECT_THAT(Targets(),
              ElementsAre("GET /api/v1/namespaces/ml/services/http:run:8080/proxy/status?x=1",
                          "POST /api/v1/namespaces/ml/services/http:run:8080/proxy/stop",
                          "POST /api/v1/namespaces/ml/services/http:run:8080/proxy/stop"));
}

}  // namespace
}  // namespace muster::k8s
