#include "launcher/platform/kubernetes/fleet_answers.h"

#include <gtest/gtest.h>

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using fleet::CreateAnswered;
using fleet::DeleteAnswered;
using k8s::ApiFailure;
using nlohmann::json;

ApiFailure Failure(int status, const std::string& reason = "", const std::string& message = "m") {
  return {.error = {Code::kUnknown, message, ""}, .status = status, .reason = reason};
}

CreateAnswered::Result Create(const ApiFailure& failure) {
  return CreateFailed("p", failure).result;
}
DeleteAnswered::Result Delete(const ApiFailure& failure) {
  return DeleteFailed("p", "u", failure).result;
}

TEST(FleetAnswers, OfCreates) {
  using Result = CreateAnswered::Result;
  EXPECT_EQ(Create(Failure(403, "Forbidden", "exceeded quota: pods")), Result::kRefused);
  EXPECT_EQ(CreateFailed("p", Failure(403, "Forbidden", "exceeded quota: pods")).message,
            "exceeded quota: pods");
  for (const int status : {400, 403, 404, 413, 422}) {
    EXPECT_EQ(Create(Failure(status)), Result::kRefused) << status;
  }
  EXPECT_EQ(Create(Failure(401, "Unauthorized")), Result::kBusy);
  EXPECT_EQ(Create(Failure(409, "Conflict")), Result::kBusy);
  for (const int status : {0, 302, 500, 502, 503, 504}) {
    EXPECT_EQ(Create(Failure(status)), Result::kUnknown) << status;
  }
}

TEST(FleetAnswers, ABusyServerSaysHowLongOrASecondHasToDo) {
  ApiFailure busy = Failure(429, "TooManyRequests");
  EXPECT_EQ(Create(busy), CreateAnswered::Result::kBusy);
  EXPECT_EQ(CreateFailed("p", busy).retry_after, 1s);
  busy.retry_after = 7s;
  EXPECT_EQ(CreateFailed("p", busy).retry_after, 7s);
  EXPECT_EQ(DeleteFailed("p", "u", busy).retry_after, 7s);
}

TEST(FleetAnswers, WhatExistsIsLookedAt) {
  using Result = CreateAnswered::Result;
  const ApiFailure exists = Failure(409, "AlreadyExists");
  EXPECT_TRUE(IsWorthALook(exists));
  EXPECT_FALSE(IsWorthALook(Failure(409, "Conflict")));
  const auto pod = [](const std::string& run) -> json {
    return {{"metadata", {{"uid", "u1"}, {"labels", {{"muster.dev/run", run}}}}}};
  };
  const CreateAnswered ours = LookedAt("p", "r1", exists, pod("r1"));
  EXPECT_EQ(ours.result, Result::kExistsOurs);
  EXPECT_EQ(ours.uid, "u1");
  EXPECT_EQ(LookedAt("p", "r1", exists, pod("r2")).result, Result::kExistsForeign);
  EXPECT_EQ(LookedAt("p", "r1", exists, json::object()).result, Result::kExistsForeign);
  EXPECT_EQ(LookedAt("p", "r1", exists, nullptr).result, Result::kUnknown);
  EXPECT_EQ(Create(exists), Result::kUnknown) << "without a look";
}

TEST(FleetAnswers, AnInternalErrorAfterWhichNothingIsThereWasARefusal) {
  using Result = CreateAnswered::Result;
  const ApiFailure broken = Failure(500, "InternalError", "failed calling webhook");
  EXPECT_TRUE(IsWorthALook(broken));
  const CreateAnswered answer = LookedAt("p", "r1", broken, nullptr);
  EXPECT_EQ(answer.result, Result::kRefused);
  EXPECT_EQ(answer.message, "failed calling webhook");
  EXPECT_FALSE(IsWorthALook(Failure(0))) << "the server may still be at it";
}

TEST(FleetAnswers, OfDeletes) {
  using Result = DeleteAnswered::Result;
  EXPECT_EQ(Delete(Failure(404, "NotFound")), Result::kNotFound);
  EXPECT_EQ(Delete(Failure(404)), Result::kFailed) << "not the API server's";
  EXPECT_EQ(Delete(Failure(409, "Conflict",
                           "Precondition failed: UID in precondition: a, UID in "
                           "object meta: b")),
            Result::kNotFound);
  EXPECT_EQ(Delete(Failure(409, "Conflict",
                           "the UID in the precondition (a) does not match the UID "
                           "in record (b)")),
            Result::kNotFound);
  EXPECT_EQ(Delete(Failure(409, "Conflict", "the object has been modified")), Result::kFailed)
      << "it is still there";
  EXPECT_EQ(Delete(Failure(403, "Forbidden")), Result::kFailed);
  for (const int status : {0, 401, 429, 500, 503}) {
    EXPECT_EQ(Delete(Failure(status)), Result::kBusy) << status;
    EXPECT_TRUE(IsFault(Failure(status))) << status;
  }
  EXPECT_FALSE(IsFault(Failure(403)));
  EXPECT_FALSE(IsFault(Failure(409, "AlreadyExists")));
  EXPECT_TRUE(IsFault(Failure(409, "Conflict", "the quota has been modified")));
}

}  // namespace
}  // namespace muster::kubernetes
