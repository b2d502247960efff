#include "launcher/gateway/router.h"

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

class RouterTest : public ::testing::Test {
 protected:
  static GatewayRequest Request(const std::string& method, const std::string& target,
                                const std::string& body = "") {
    return {method, target, kTestSecret, body};
  }
  // What is answered at once.
  GatewayOutcome Ask(const GatewayRequest& request) {
    if (auto refusal = router_.Refusal(request, false)) return *refusal;
    std::optional<GatewayOutcome> outcome;
    router_.Handle(request, [&](GatewayOutcome each) { outcome = std::move(each); });
    if (!outcome) return GatewayAnswer{0, "no answer"};
    return std::move(*outcome);
  }
  GatewayAnswer Answer(const GatewayRequest& request) {
    auto outcome = Ask(request);
    auto* answer = std::get_if<GatewayAnswer>(&outcome);
    return answer ? *answer : GatewayAnswer{0, "a stream"};
  }
  GatewayAnswer Get(const std::string& target) { return Answer(Request("GET", target)); }
  GatewayAnswer Post(const std::string& target, const std::string& body) {
    return Answer(Request("POST", target, body));
  }
  // All of a stream that ends.
  std::string Text(const std::string& target) {
    auto outcome = Ask(Request("GET", target));
    auto* stream = std::get_if<GatewayStream>(&outcome);
    if (stream == nullptr) return std::get<GatewayAnswer>(outcome).body;
    std::string text;
    while (true) {
      const TextStream::Piece piece = stream->text->Next();
      text += piece.text;
      if (piece.end) return text;
    }
  }

  TestJob job_;
  Router router_{job_, kTestSecret};
};

TEST_F(RouterTest, ShowsTheStatus) {
  const GatewayAnswer answer = Get("/v1/status");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.type, "application/json");
  EXPECT_EQ(json::parse(answer.body)["name"], "test");
}

TEST_F(RouterTest, RefusesWhoDoesNotKnowTheSecret) {
  for (const std::string& secret : {std::string(), std::string(64, 'b'), kTestSecret + "a",
                                    kTestSecret.substr(1), std::string(63, 'a') + "b"}) {
    for (const char* target : {"/v1/status", "/v1/events", "/v1/logs", "/metrics", "/nowhere"}) {
      const GatewayAnswer answer = Answer({"GET", target, secret, ""});
      EXPECT_EQ(answer.status, 401) << target << " " << secret;
      const json error = json::parse(answer.body);
      EXPECT_EQ(error["code"], "unauthenticated");
      EXPECT_THAT(error["hint"], HasSubstr("X-Muster-Secret"));
    }
    EXPECT_EQ(Answer({"POST", "/v1/stop", secret, "{}"}).status, 401);
  }
  EXPECT_THAT(job_.orders(), ElementsAre());
}

TEST_F(RouterTest, AnswersProbesWithoutTheSecret) {
  EXPECT_EQ(Answer({"GET", "/healthz", "", ""}).status, 200);
  EXPECT_EQ(Answer({"GET", "/readyz", "", ""}).status, 503) << "it has not started yet";
  router_.SetReady();
  EXPECT_EQ(Answer({"GET", "/readyz", "", ""}).status, 200);
}

TEST_F(RouterTest, AnswersOnlyProbesWhenItIsCrowded) {
  EXPECT_EQ(router_.Refusal(Request("GET", "/v1/status"), true)->status, 503);
  EXPECT_FALSE(router_.Refusal(Request("GET", "/healthz"), true));
}

TEST_F(RouterTest, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(Get("/v1/nothing").status, 404);
  EXPECT_EQ(Get("/").status, 404);
  EXPECT_EQ(Get("/v1/status/").status, 404);
  const GatewayAnswer method = Answer(Request("DELETE", "/v1/status"));
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.allow, "GET");
  EXPECT_EQ(Get("/v1/resize").allow, "POST");
  EXPECT_EQ(Get("/v1/status?verbose=1").status, 400);
  EXPECT_THAT(json::parse(Get("/v1/events?from=1").body)["hint"], HasSubstr("after, follow"));
}

TEST_F(RouterTest, ShowsEventsAfterANumber) {
  std::string all;
  for (int i = 1; i <= 40; ++i) {
    job_.Emit("{\"sequence\":" + std::to_string(i) + "}");
    if (i > 3) all += "{\"sequence\":" + std::to_string(i) + "}\n";
  }
  EXPECT_EQ(Text("/v1/events?after=3"), all);
  EXPECT_EQ(Text("/v1/events?after=40"), "");
  job_.Finish("{\"event\":\"finished\"}");
  EXPECT_EQ(Text("/v1/events?after=40"), "") << "who does not follow gets events only";
  EXPECT_EQ(Text("/v1/events?after=39&follow=1"), "{\"sequence\":40}\n{\"event\":\"finished\"}\n");
}

TEST_F(RouterTest, RefusesBadParameters) {
  for (const char* target :
       {"/v1/events?after=-1", "/v1/events?after=x", "/v1/events?after=1x",
        "/v1/events?after=", "/v1/events?after", "/v1/events?after=99999999999999999999",
        "/v1/events?follow=2", "/v1/events?follow=yes", "/v1/logs", "/v1/logs?worker=w-3&tail=a",
        "/v1/logs?worker=w-3&follow=2", "/v1/logs?worker=%4", "/v1/logs?worker=%zz"}) {
    const GatewayAnswer answer = Get(target);
    EXPECT_EQ(answer.status, 400) << target;
    EXPECT_EQ(json::parse(answer.body)["code"], "invalid argument") << target;
  }
}

TEST_F(RouterTest, ShowsLogsOrSaysWhereTheyAre) {
  EXPECT_EQ(Text("/v1/logs?worker=w-3"), "one\nall");
  EXPECT_EQ(Text("/v1/logs?worker=w%2D3&tail=10&follow=1"), "one\ntail 10 follow");
  EXPECT_EQ(Text("/v1/logs?worker=w-3&tail=0"), "one\ntail 0");
  const GatewayAnswer other = Get("/v1/logs?worker=w-9");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(json::parse(other.body)["hint"], "look at its pod");
}

TEST_F(RouterTest, HandsOrdersToTheJob) {
  EXPECT_EQ(Post("/v1/resize", R"({"min":2,"max":8})").status, 200);
  EXPECT_EQ(Post("/v1/stop", R"({"now":true,"reason":"upgrade"})").status, 200);
  EXPECT_EQ(Post("/v1/stop", "{}").body, "{\"done\":true}\n");
  EXPECT_THAT(job_.orders(), ElementsAre("resize 2:8", "stop now upgrade", "stop "));
}

TEST_F(RouterTest, TellsWhyTheJobRefuses) {
  job_.RefuseWith({Code::kFailedPrecondition, "the job has ended", ""});
  const GatewayAnswer answer = Post("/v1/resize", R"({"min":2,"max":8})");
  EXPECT_EQ(answer.status, 409);
  EXPECT_EQ(json::parse(answer.body),
            (json{{"error", "the job has ended"}, {"code", "failed precondition"}, {"hint", ""}}));
}

TEST_F(RouterTest, RefusesBadBodies) {
  for (const char* body :
       {"", "{", "[]", "2", "null", R"({"min":2})", R"({"min":2,"max":"8"})",
        R"({"min":2.5,"max":8})", R"({"min":-1,"max":8})", R"({"min":2,"max":8,"step":1})",
        R"({"min":2,"max":99999999999})", R"({"min":2,"max":18446744073709551615})",
        "{\"min\":2,\"max\":8}x", "\xff"}) {
    const GatewayAnswer answer = Post("/v1/resize", body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_EQ(json::parse(answer.body)["code"], "invalid argument") << body;
  }
  for (const char* body : {"", "[]", R"({"now":1})", R"({"reason":2})", R"({"when":"now"})"})
    EXPECT_EQ(Post("/v1/stop", body).status, 400) << body;
  EXPECT_THAT(job_.orders(), ElementsAre());
}

TEST_F(RouterTest, HandsOnTheJobsFiles) {
  EXPECT_EQ(Get("/v1/bundle").body, "{\"missing\":[\"ab\"]}\n");
  EXPECT_EQ(Post("/v1/chunk?hash=ab", "bytes").body, "{\"missing\":0}\n");
  EXPECT_THAT(job_.orders(), ElementsAre("chunk ab of 5"));
  EXPECT_EQ(Post("/v1/chunk", "bytes").status, 400);
  EXPECT_EQ(Get("/v1/chunk?hash=ab").status, 405);
  job_.RefuseWith({Code::kDataLoss, "it is damaged", ""});
  EXPECT_EQ(Post("/v1/chunk?hash=ab", "bytes").status, 500);
  EXPECT_TRUE(Router::CarriesChunk("/v1/chunk?hash=ab"));
  EXPECT_FALSE(Router::CarriesChunk("/v1/stop"));
  EXPECT_FALSE(Router::CarriesChunk("/v1/chunks"));
}

TEST_F(RouterTest, AnErrorIsJsonWhateverWasSent) {
  const GatewayAnswer answer = Get("/v1/events?\xff\xfe=1");
  EXPECT_EQ(answer.status, 400);
  EXPECT_TRUE(json::accept(answer.body)) << answer.body;
}

TEST_F(RouterTest, CountsForPrometheus) {
  router_.Count(200);
  router_.Count(200);
  router_.Count(401);
  const GatewayAnswer answer = Get("/metrics");
  EXPECT_THAT(answer.type, HasSubstr("version=0.0.4"));
  EXPECT_THAT(answer.body, HasSubstr("# TYPE muster_step gauge\nmuster_step 7\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_world_size 4\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_generation 3\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_workers_wanted 8\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_workers_ready 4\n"));
  EXPECT_THAT(answer.body, HasSubstr("# TYPE muster_membership_changes_total counter\n"
                                     "muster_membership_changes_total 2\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_steps_redone_total 1\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nmuster_http_requests_total{code=\"200\"} 2\n"
                                     "muster_http_requests_total{code=\"401\"} 1\n"));
}

}  // namespace
}  // namespace muster
