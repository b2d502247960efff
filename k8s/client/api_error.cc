#include "k8s/client/api_error.h"

#include <charconv>

#include "k8s/client/json_fields.h"

namespace muster::k8s {
namespace {

using nlohmann::json;

constexpr size_t kMaxShownText = 300;
constexpr int64_t kMaxRetryAfterSeconds = 24 * 60 * 60;
constexpr int kRetriesOfInternalErrors = 3;
constexpr Duration kLeastSpread = std::chrono::milliseconds(500);

struct Meaning {
  Code code;
  const char* hint;
};

Meaning MeaningOf(int status, const std::string& reason, const std::string& message) {
  switch (status) {
    case 401:
      return {Code::kUnauthenticated,
              "the server does not know us: log in again, or check the user of the context"};
    case 403:
      // Only the text tells.
      if (message.find("exceeded quota") != std::string::npos) {
        return {Code::kResourceExhausted, "the namespace's ResourceQuota is used up"};
      }
      return {Code::kPermissionDenied, "ask the cluster's admin for a Role that allows it"};
    case 404:
      return {Code::kNotFound, ""};
    case 405:
    case 501:
      return {Code::kUnimplemented, ""};
    case 409:
      if (reason == "AlreadyExists") return {Code::kAlreadyExists, ""};
      return {Code::kAborted, "it was changed meanwhile; read it again"};
    case 410:
      return {Code::kOutOfRange, "list again"};
    case 429:
      return {Code::kResourceExhausted, "the API server asks us to slow down"};
    case 500:
      return {Code::kInternal, "see the API server's log, or that of the webhook it names"};
    default:
      if (status >= 500) return {Code::kUnavailable, "the API server is overloaded or restarting"};
      if (status < 400) return {Code::kUnimplemented, "is server in the kubeconfig an API server?"};
      return {Code::kInvalidArgument, ""};
  }
}

std::optional<Duration> SecondsOf(int64_t seconds) {
  if (seconds < 0 || seconds > kMaxRetryAfterSeconds) return std::nullopt;
  return std::chrono::seconds(seconds);
}

ApiFailure Failure(int status, const json& object, const std::string& message,
                   std::string_view what) {
  ApiFailure failure;
  failure.status = status;
  failure.reason = StringAt(object, {"reason"});
  const Meaning meaning = MeaningOf(status, failure.reason, message);
  failure.error = {
      meaning.code,
      fmt::format("{}: {}{}{}", what, status, failure.reason.empty() ? "" : " " + failure.reason,
                  message.empty() ? "" : ": " + message),
      meaning.hint};
  const int64_t seconds = IntegerAt(object, {"details", "retryAfterSeconds"}, 0);
  if (seconds > 0) failure.retry_after = SecondsOf(seconds);
  return failure;
}

// A text that is no Status, as a proxy writes it: its beginning, on one line.
std::string Shown(std::string text) {
  if (text.size() > kMaxShownText) text.resize(kMaxShownText);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

}  // namespace

ApiFailure FailureOfStatus(const json& status, std::string_view what) {
  return Failure(static_cast<int>(IntegerAt(status, {"code"}, 500)), status,
                 StringAt(status, {"message"}), what);
}

ApiFailure FailureOf(const HttpResponse& response, std::string_view what) {
  const json object = FromText(response.body, what).value_or(json());
  const bool is_status = StringAt(object, {"kind"}) == "Status";
  const std::string message = is_status ? StringAt(object, {"message"}) : Shown(response.body);
  ApiFailure failure = Failure(response.head.status, is_status ? object : json(), message, what);
  const auto header = response.head.headers.find("retry-after");
  if (header != response.head.headers.end()) {
    int64_t seconds = -1;
    const std::string& text = header->second;
    // The other form, a date, is not what API servers send.
    std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (const auto wait = SecondsOf(seconds)) failure.retry_after = wait;
  }
  return failure;
}

std::optional<Duration> Retry::Next(const ApiFailure& failure, TimePoint now, TimePoint deadline,
                                    double random) {
  const bool unanswered = failure.status == 0 && failure.error.code == Code::kUnavailable;
  const bool busy = failure.status == 429 || (failure.status >= 502 && failure.status <= 504);
  const bool internal = failure.status >= 500 && !busy && failure.status != 501;
  if (!unanswered && !busy && !(internal && internal_errors_++ < kRetriesOfInternalErrors))
    return std::nullopt;
  const Duration backoff = policy_.Delay(attempt_++);
  // Never earlier than the server says, and not all clients at the same moment.
  const Duration least = failure.retry_after.value_or(backoff / 2);
  const Duration spread = failure.retry_after
                              ? std::max<Duration>(*failure.retry_after / 10, kLeastSpread)
                              : backoff / 2;
  const Duration wait = least + std::chrono::duration_cast<Duration>(spread * random);
  if (wait >= deadline - now) return std::nullopt;
  return wait;
}

}  // namespace muster::k8s
