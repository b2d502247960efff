#include "launcher/gateway/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>

#include "launcher/gateway/metrics.h"
#include "runtime/base/secret.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kJsonLines[] = "application/jsonl";
constexpr char kText[] = "text/plain; charset=utf-8";
constexpr size_t kEventsAtOnce = 16;  // an event of thousands of workers is some 100 KiB

int HttpStatus(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kOutOfRange:
      return 400;
    case Code::kUnauthenticated:
      return 401;
    case Code::kPermissionDenied:
      return 403;
    case Code::kNotFound:
      return 404;
    case Code::kAlreadyExists:
    case Code::kFailedPrecondition:
    case Code::kAborted:
      return 409;
    case Code::kUnimplemented:
      return 501;
    case Code::kUnavailable:
    case Code::kResourceExhausted:
      return 503;
    case Code::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

class EventStream final : public TextStream {
 public:
  EventStream(GatewaySource& source, uint64_t after, bool follow)
      : source_(source), after_(after), follow_(follow) {}

  Piece Next() override {
    const EventPage page = source_.EventsAfter(after_, kEventsAtOnce);
    Piece piece;
    for (const std::string& line : page.lines) piece.text += line + "\n";
    after_ = page.last;
    if (!page.lines.empty()) return piece;
    if (follow_ && page.finished) piece.text = *page.finished + "\n";
    piece.end = !follow_ || page.finished;
    return piece;
  }

 private:
  GatewaySource& source_;
  uint64_t after_;
  const bool follow_;
};

std::optional<unsigned> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

// Undoes %41. Nothing for what is not well formed.
std::optional<std::string> PercentDecoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    const auto high = i + 2 < text.size() ? HexDigit(text[i + 1]) : std::nullopt;
    const auto low = i + 2 < text.size() ? HexDigit(text[i + 2]) : std::nullopt;
    if (!high || !low) return std::nullopt;
    plain += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return plain;
}

// The object of a body, which may have these keys only.
Result<Json> ParseBody(const std::string& body, std::initializer_list<std::string_view> keys) {
  Json object = Json::parse(body, nullptr, false);
  if (!object.is_object()) {
    return WithHint(Err(Code::kInvalidArgument, "the body is no JSON object"),
                    fmt::format("send an object with {}", fmt::join(keys, ", ")));
  }
  for (const auto& [key, value] : object.items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    return WithHint(Err(Code::kInvalidArgument, "the body has a key that is not known: {}", key),
                    fmt::format("known are {}", fmt::join(keys, ", ")));
  }
  return object;
}

Result<int> WorkerCount(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_number_integer()) {
    const auto value = found->get<int64_t>();
    if (value >= 0 && value <= std::numeric_limits<int>::max()) return static_cast<int>(value);
  }
  return WithHint(Err(Code::kInvalidArgument, "{} must be a number of workers", key),
                  R"(for example {"min":2,"max":8})");
}

GatewaySource::Done AnswerWith(const Router::Respond& respond) {
  return [respond](const Result<std::string>& done) {
    respond(done ? GatewayAnswer{200, *done + "\n"} : ErrorAnswer(done.error()));
  };
}

}  // namespace

GatewayAnswer ErrorAnswer(const Error& error) { return ErrorAnswer(error, HttpStatus(error.code)); }

GatewayAnswer ErrorAnswer(const Error& error, int status) {
  const Json object = {
      {"error", error.message}, {"code", CodeName(error.code)}, {"hint", error.hint}};
  // Parts of the request are in it, which may be no UTF-8.
  return {status, object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

// --- What is asked --------------------------------------------------------------------------------------------------------

struct Router::Target {
  std::string path;
  std::map<std::string, std::string> parameters;

  Result<uint64_t> Number(const std::string& name, uint64_t otherwise) const {
    const auto found = parameters.find(name);
    if (found == parameters.end()) return otherwise;
    const std::string& text = found->second;
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc{} && end == text.data() + text.size()) return value;
    return Err(Code::kInvalidArgument, "{} must be a whole number, not \"{}\"", name, text);
  }

  Result<bool> Flag(const std::string& name) const {
    MUSTER_ASSIGN(const uint64_t value, Number(name, 0));
    if (value <= 1) return value == 1;
    return Err(Code::kInvalidArgument, "{} must be 0 or 1, not {}", name, value);
  }
};

struct Router::Route {
  std::string_view method;
  std::string_view path;
  bool probe;  // needs no secret, and is answered whatever else goes on
  std::vector<std::string> parameters;
  void (Router::*handler)(const Target&, const std::string& body, const Respond&);
};

const Router::Route Router::kRoutes[] = {
    {"GET", "/v1/status", false, {}, &Router::GetStatus},
    {"GET", "/v1/events", false, {"after", "follow"}, &Router::GetEvents},
    {"GET", "/v1/logs", false, {"worker", "follow", "tail"}, &Router::GetLogs},
    {"POST", "/v1/resize", false, {}, &Router::PostResize},
    {"POST", "/v1/stop", false, {}, &Router::PostStop},
    {"GET", "/v1/bundle", false, {}, &Router::GetBundle},
    {"POST", "/v1/chunk", false, {"hash"}, &Router::PostChunk},
    {"GET", "/healthz", true, {}, &Router::GetHealth},
    {"GET", "/readyz", true, {}, &Router::GetReady},
    {"GET", "/metrics", false, {}, &Router::GetMetrics},
};

const Router::Route* Router::FindRoute(std::string_view path) {
  path = path.substr(0, path.find('?'));
  for (const Route& route : kRoutes) {
    if (route.path == path) return &route;
  }
  return nullptr;
}

Result<Router::Target> Router::ParseTarget(std::string_view text) {
  const Route& route = *FindRoute(text);
  Target target{std::string(route.path), {}};
  text.remove_prefix(std::min(text.size(), route.path.size() + 1));
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    if (part.empty()) continue;
    const size_t equals = std::min(part.find('='), part.size());
    const std::string name(part.substr(0, equals));
    if (std::find(route.parameters.begin(), route.parameters.end(), name) ==
        route.parameters.end()) {
      return WithHint(Err(Code::kInvalidArgument, "{} has no parameter \"{}\"", route.path, name),
                      fmt::format("it has: {}", fmt::join(route.parameters, ", ")));
    }
    const auto value = PercentDecoded(part.substr(std::min(equals + 1, part.size())));
    if (!value) return Err(Code::kInvalidArgument, "the value of {} is not well encoded", name);
    target.parameters[name] = *value;
  }
  return target;
}

// --- Who may ask ----------------------------------------------------------------------------------------------------------

std::optional<GatewayAnswer> Router::Refusal(const GatewayRequest& request, bool crowded) const {
  const Route* route = FindRoute(request.target);
  const bool probe = route != nullptr && route->probe;
  if (crowded && !probe) {
    return ErrorAnswer({Code::kResourceExhausted, "too many connections are open",
                        "try again when some have ended"});
  }
  if (!probe && !SameSecret(request.secret, secret_)) {
    return ErrorAnswer({Code::kUnauthenticated,
                        request.secret.empty()
                            ? "the request carries no secret"
                            : "the secret of the request is not that of this job",
                        "send the job's secret in the header X-Muster-Secret"});
  }
  if (route == nullptr) {
    return ErrorAnswer({Code::kNotFound, "there is no such route",
                        "docs/gateway.md lists them; status is at /v1/status"});
  }
  if (route->method == request.method) return std::nullopt;
  GatewayAnswer answer = ErrorAnswer(
      {Code::kUnimplemented, fmt::format("{} knows {} only", route->path, route->method), ""}, 405);
  answer.allow = route->method;
  return answer;
}

bool Router::CarriesChunk(std::string_view target) {
  const Route* route = FindRoute(target);
  return route != nullptr && route->handler == &Router::PostChunk;
}

void Router::Handle(const GatewayRequest& request, Respond respond) {
  const Route* route = FindRoute(request.target);
  const Result<Target> target = ParseTarget(request.target);
  if (!target) return respond(ErrorAnswer(target.error()));
  (this->*route->handler)(*target, request.body, respond);
}

// --- Routes ---------------------------------------------------------------------------------------------------------------

void Router::GetStatus(const Target&, const std::string&, const Respond& respond) {
  respond(GatewayAnswer{200, source_.StatusText() + "\n"});
}

void Router::GetEvents(const Target& target, const std::string&, const Respond& respond) {
  const Result<uint64_t> after = target.Number("after", 0);
  const Result<bool> follow = target.Flag("follow");
  if (!after) return respond(ErrorAnswer(after.error()));
  if (!follow) return respond(ErrorAnswer(follow.error()));
  respond(GatewayStream{std::make_unique<EventStream>(source_, *after, *follow), kJsonLines, "\n"});
}

void Router::GetLogs(const Target& target, const std::string&, const Respond& respond) {
  const auto worker = target.parameters.find("worker");
  if (worker == target.parameters.end()) {
    return respond(ErrorAnswer(
        {Code::kInvalidArgument, "no worker is named", "for example /v1/logs?worker=w-3"}));
  }
  const Result<uint64_t> tail = target.Number("tail", 0);
  const Result<bool> follow = target.Flag("follow");
  if (!tail) return respond(ErrorAnswer(tail.error()));
  if (!follow) return respond(ErrorAnswer(follow.error()));
  const bool whole = !target.parameters.contains("tail");
  auto log = source_.OpenLog(worker->second, whole ? std::nullopt : std::optional(*tail), *follow);
  if (!log) return respond(ErrorAnswer(log.error()));
  respond(GatewayStream{std::move(*log), kText, "", /*poll=*/true});
}

void Router::PostResize(const Target&, const std::string& body, const Respond& respond) {
  const Result<Json> object = ParseBody(body, {"min", "max"});
  if (!object) return respond(ErrorAnswer(object.error()));
  const Result<int> min = WorkerCount(*object, "min");
  const Result<int> max = WorkerCount(*object, "max");
  if (!min) return respond(ErrorAnswer(min.error()));
  if (!max) return respond(ErrorAnswer(max.error()));
  source_.Resize(*min, *max, AnswerWith(respond));
}

void Router::PostStop(const Target&, const std::string& body, const Respond& respond) {
  const Result<Json> object = ParseBody(body, {"now", "reason"});
  if (!object) return respond(ErrorAnswer(object.error()));
  const Json now = object->value("now", Json(false));
  const Json reason = object->value("reason", Json(""));
  if (!now.is_boolean() || !reason.is_string()) {
    return respond(ErrorAnswer({Code::kInvalidArgument, "now must be true or false, reason a text",
                                R"(for example {"now":false,"reason":"maintenance"})"}));
  }
  source_.Stop(now.get<bool>(), reason.get<std::string>(), AnswerWith(respond));
}

void Router::GetBundle(const Target&, const std::string&, const Respond& respond) {
  AnswerWith(respond)(source_.BundleText());
}

void Router::PostChunk(const Target& target, const std::string& body, const Respond& respond) {
  const auto hash = target.parameters.find("hash");
  if (hash == target.parameters.end()) {
    return respond(ErrorAnswer(
        {Code::kInvalidArgument, "no chunk is named", "for example /v1/chunk?hash=01ab..."}));
  }
  AnswerWith(respond)(source_.PutChunk(hash->second, body));
}

void Router::GetHealth(const Target&, const std::string&, const Respond& respond) {
  respond(GatewayAnswer{200, "ok\n", kText});
}

void Router::GetReady(const Target&, const std::string&, const Respond& respond) {
  if (ready_) return respond(GatewayAnswer{200, "ok\n", kText});
  respond(ErrorAnswer({Code::kUnavailable, "the coordinator is still starting", ""}));
}

void Router::GetMetrics(const Target&, const std::string&, const Respond& respond) {
  respond(GatewayAnswer{200, MetricsText(source_.Figures(), answers_),
                        "text/plain; version=0.0.4; charset=utf-8"});
}

}  // namespace muster
