#include "k8s/client/api_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "k8s/client/api_paths.h"
#include "k8s/client/json_fields.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;

HttpResponse Response(int status, const std::string& body, const std::string& retry_after = "") {
  HttpResponse response{{.status = status, .version = 11}, body};
  if (!retry_after.empty()) response.head.headers["retry-after"] = retry_after;
  return response;
}

Code CodeOf(int status, const std::string& reason, const std::string& message = "") {
  const json body = {{"kind", "Status"}, {"reason", reason}, {"message", message}};
  return FailureOf(Response(status, body.dump()), "GET /x").error.code;
}

// Copying what is nested a hundred thousand levels deep would go beyond the end of the stack.
TEST(ApiError, AnAnswerThatIsNestedWithoutEndIsNoAnswer) {
  const std::string nested = R"({"kind":"Status","message":"m","x":)" + std::string(100'000, '[') +
                             std::string(100'000, ']') + "}";
  const auto object = FromText(nested, "GET /x");
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Code::kDataLoss);
  EXPECT_EQ(object.error().message, "GET /x: the answer is nested deeper than 500 levels");
  EXPECT_EQ(FailureOf(Response(500, nested), "GET /x").error.code, Code::kInternal);
  EXPECT_TRUE(
      FromText(R"(["\"[[", )" + std::string(499, '[') + std::string(499, ']') + "]", "GET /x"));
}

TEST(ApiError, GivesEachAnswerItsCode) {
  EXPECT_EQ(CodeOf(400, "BadRequest"), Code::kInvalidArgument);
  EXPECT_EQ(CodeOf(401, "Unauthorized"), Code::kUnauthenticated);
  EXPECT_EQ(CodeOf(403, "Forbidden", "pods is forbidden"), Code::kPermissionDenied);
  EXPECT_EQ(CodeOf(403, "Forbidden", "pods \"w\" is forbidden: exceeded quota: gpu"),
            Code::kResourceExhausted);
  EXPECT_EQ(CodeOf(404, "NotFound"), Code::kNotFound);
  EXPECT_EQ(CodeOf(405, "MethodNotAllowed"), Code::kUnimplemented);
  EXPECT_EQ(CodeOf(409, "AlreadyExists"), Code::kAlreadyExists);
  EXPECT_EQ(CodeOf(409, "Conflict"), Code::kAborted);
  EXPECT_EQ(CodeOf(410, "Expired"), Code::kOutOfRange);
  EXPECT_EQ(CodeOf(422, "Invalid"), Code::kInvalidArgument);
  EXPECT_EQ(CodeOf(429, "TooManyRequests"), Code::kResourceExhausted);
  EXPECT_EQ(CodeOf(500, "InternalError"), Code::kInternal);
  EXPECT_EQ(CodeOf(503, "ServiceUnavailable"), Code::kUnavailable);
  EXPECT_EQ(CodeOf(302, ""), Code::kUnimplemented);
}

TEST(ApiError, KeepsTheServersWordsAndItsWait) {
  const ApiFailure failure =
      FailureOf(Response(429, R"({"kind":"Status","reason":"TooManyRequests","message":"later",
                        "details":{"retryAfterSeconds":7}})"),
                "GET /x");
  EXPECT_EQ(failure.error.message, "GET /x: 429 TooManyRequests: later");
  EXPECT_EQ(failure.retry_after, 7s);
  EXPECT_EQ(FailureOf(Response(503, "", "3"), "x").retry_after, 3s);
  for (const char* text : {"soon", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"}) {
    EXPECT_EQ(FailureOf(Response(503, "", text), "x").retry_after, std::nullopt) << text;
  }
}

TEST(ApiError, ShowsTheBeginningOfWhatIsNoStatus) {
  const ApiFailure failure =
      FailureOf(Response(502, "<html>\n" + std::string(5'000, 'x')), "GET /x");
  EXPECT_THAT(failure.error.message, HasSubstr("502: <html> xxx"));
  EXPECT_LT(failure.error.message.size(), 400U);
  EXPECT_EQ(FailureOf(Response(500, "[1]"), "x").error.code, Code::kInternal);
  EXPECT_EQ(FailureOf(Response(500, R"({"kind":"Status","reason":5,"details":[]})"), "x").reason,
            "");
}

TEST(ApiError, ReadsAStatusOfAWatch) {
  const json status = {
      {"kind", "Status"}, {"code", 410}, {"reason", "Expired"}, {"message", "too old"}};
  const ApiFailure failure = FailureOfStatus(status, "watch");
  EXPECT_EQ(failure.error.code, Code::kOutOfRange);
  EXPECT_EQ(failure.error.message, "watch: 410 Expired: too old");
}

class RetryTest : public ::testing::Test {
 protected:
  static ApiFailure Failure(int status, std::optional<Duration> retry_after = std::nullopt) {
    ApiFailure failure;
    failure.status = status;
    failure.error.code = status == 0 ? Code::kUnavailable : Code::kUnknown;
    failure.retry_after = retry_after;
    return failure;
  }
  const TimePoint now_;
  Retry retry_{BackoffPolicy{.first = 100ms, .cap = 400ms}};
};

TEST_F(RetryTest, WaitsLongerEachTimeWithJitter) {
  const TimePoint later = now_ + 1h;
  EXPECT_EQ(retry_.Next(Failure(503), now_, later, 0), 50ms);
  EXPECT_EQ(retry_.Next(Failure(503), now_, later, 0.5), 150ms);
  EXPECT_EQ(retry_.Next(Failure(0), now_, later, 0), 200ms);
  EXPECT_EQ(retry_.Next(Failure(429), now_, later, 0), 200ms);
}

TEST_F(RetryTest, NeverComesBeforeTheServerSays) {
  const TimePoint later = now_ + 1h;
  EXPECT_EQ(retry_.Next(Failure(429, 10s), now_, later, 0), 10s);
  EXPECT_EQ(retry_.Next(Failure(429, 10s), now_, later, 0.5), 10s + 500ms);
  EXPECT_EQ(retry_.Next(Failure(500, 1s), now_, later, 0), 1s);
}

TEST_F(RetryTest, GivesUpWhereAskingIsOfNoUse) {
  const TimePoint later = now_ + 1h;
  for (const int status : {301, 400, 401, 403, 404, 409, 410, 422, 501}) {
    EXPECT_EQ(retry_.Next(Failure(status), now_, later, 0), std::nullopt) << status;
  }
  ApiFailure bad_certificate;
  bad_certificate.error.code = Code::kUnauthenticated;
  EXPECT_EQ(retry_.Next(bad_certificate, now_, later, 0), std::nullopt);
  EXPECT_EQ(retry_.Next(Failure(503, 10s), now_, now_ + 10s, 0), std::nullopt);
}

TEST(ApiPaths, AreThoseOfTheApi) {
  EXPECT_EQ(CollectionPath(kPods, ""), "/api/v1/pods");
  EXPECT_EQ(CollectionPath(kNodes, "ml"), "/api/v1/nodes");
  EXPECT_EQ(CollectionPath(kJobs, "ml"), "/apis/batch/v1/namespaces/ml/jobs");
  EXPECT_EQ(ObjectPath({kPods, "a/b", "../x", "log"}), "/api/v1/namespaces/a%2Fb/pods/..%2Fx/log");
  EXPECT_EQ(ProxyPath({"ml", "run", "http", true}, "/a?b=c"),
            "/api/v1/namespaces/ml/services/https:run:http/proxy/a?b=c");
  EXPECT_EQ(WithQuery("/x", {{"a", ""}, {"b", "c d&="}, {"e", "f"}}), "/x?b=c%20d%26%3D&e=f");
}

}  // namespace
}  // namespace muster::k8s
