#include "launcher/platform/kubernetes/fleet_answers.h"

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {
namespace {

using fleet::CreateAnswered;
using fleet::DeleteAnswered;
using k8s::ApiFailure;

constexpr Duration kBusyPause = std::chrono::seconds(1);  // where the server does not say how long

bool Exists(const ApiFailure& failure) {
  return failure.status == 409 && failure.reason == "AlreadyExists";
}

CreateAnswered::Result Meaning(const ApiFailure& failure) {
  using Result = CreateAnswered::Result;
  if (Exists(failure)) return Result::kUnknown;
  if (failure.status == 401 || failure.status == 409 || failure.status == 429) return Result::kBusy;
  return failure.status >= 400 && failure.status < 500 ? Result::kRefused : Result::kUnknown;
}

// There are other conflicts, after which it is still there.
bool IsAnother(const ApiFailure& failure) {
  const std::string& message = failure.error.message;
  return failure.status == 409 && message.find("UID") != message.npos &&
         message.find("recondition") != message.npos;
}

}  // namespace

CreateAnswered CreateFailed(const std::string& name, const ApiFailure& failure) {
  return {.name = name,
          .result = Meaning(failure),
          .message = failure.error.message,
          .retry_after = failure.retry_after.value_or(kBusyPause)};
}

bool IsWorthALook(const ApiFailure& failure) { return Exists(failure) || failure.status == 500; }

CreateAnswered LookedAt(const std::string& name, const std::string& run, const ApiFailure& failure,
                        const nlohmann::json& pod) {
  using Result = CreateAnswered::Result;
  CreateAnswered answer = CreateFailed(name, failure);
  if (pod.is_null()) {
    // An internal error, as of a broken webhook, and nothing done. What had existed may be ours and gone: lists will tell.
    if (!Exists(failure)) answer.result = Result::kRefused;
  } else if (k8s::StringAt(pod, {"metadata", "labels", std::string(kRunLabel).c_str()}) == run) {
    answer.result = Result::kExistsOurs;
    answer.uid = k8s::StringAt(pod, {"metadata", "uid"});
  } else {
    answer.result = Result::kExistsForeign;
  }
  return answer;
}

DeleteAnswered DeleteFailed(const std::string& name, const std::string& uid,
                            const ApiFailure& failure) {
  using Result = DeleteAnswered::Result;
  DeleteAnswered answer{.name = name,
                        .uid = uid,
                        .result = Result::kFailed,
                        .message = failure.error.message,
                        .retry_after = failure.retry_after.value_or(kBusyPause)};
  // A 404 without a reason is not the API server's.
  if (IsAnother(failure) || (failure.status == 404 && failure.reason == "NotFound")) {
    answer.result = Result::kNotFound;
  } else if (IsFault(failure) && failure.status != 409) {
    answer.result = Result::kBusy;
  }
  return answer;
}

bool IsFault(const ApiFailure& failure) {
  if (failure.status == 409) return !Exists(failure) && !IsAnother(failure);
  return failure.status == 0 || failure.status == 401 || failure.status == 429 ||
         failure.status >= 500;
}

}  // namespace muster::kubernetes
