// ApiError: what an answer of the API server that is no success means to us, and whether and when to ask again. Pure.
//
// Threading: plain values and free functions.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "k8s/client/http.h"
#include "runtime/base/backoff.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::k8s {

// A failed attempt.
struct ApiFailure {
  Error error;
  int status = 0;      // of HTTP; 0: there was no answer
  std::string reason;  // the server's word for it: "AlreadyExists", "Expired"; may be empty
  std::optional<Duration> retry_after;
};

// The meaning of an answer with a status of 300 or more; `what` names the request. The message holds the server's own one.
//   400 406 413 415 422 kInvalidArgument     401 kUnauthenticated          403 kPermissionDenied; by quota kResourceExhausted
//   404 kNotFound                            405 501 kUnimplemented        409 kAlreadyExists, else kAborted: changed meanwhile
//   410 kOutOfRange: too old, list again     429 kResourceExhausted        500 kInternal       502 503 504 kUnavailable
ApiFailure FailureOf(const HttpResponse& response, std::string_view what);

// The same of a Status object, as in an ERROR event of a watch.
ApiFailure FailureOfStatus(const nlohmann::json& status, std::string_view what);

// When to ask again. Counts the attempts of one request.
//
// Asked again are: 429, 502, 503, 504 and requests without an answer, until the deadline; other 5xx three times, because they may
// stay for ever (a broken webhook); all with the wait that the server asks for, else with a growing one, with jitter.
class Retry {
 public:
  explicit Retry(BackoffPolicy policy) : policy_(policy) {}

  // The wait before the next attempt after `failure`; none if there should be no more, or if it would come after `deadline`.
  // `random` is in [0, 1).
  std::optional<Duration> Next(const ApiFailure& failure, TimePoint now, TimePoint deadline,
                               double random);

 private:
  BackoffPolicy policy_;
  int attempt_ = 0;
  int internal_errors_ = 0;
};

}  // namespace muster::k8s
