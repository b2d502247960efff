// Router: from a request to what is answered, without a socket: who may ask, what is asked, and what the job says to it.
//
// Threading: none, except SetReady; the gateway's thread uses it. Ownership: the source must outlive it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "launcher/gateway/gateway_source.h"

namespace muster {

struct GatewayRequest {
  std::string method;
  std::string target;  // path and query
  std::string secret;  // of X-Muster-Secret
  std::string body;
};

struct GatewayAnswer {
  int status = 200;
  std::string body;
  std::string type = "application/json";
  std::string allow;  // with 405: the method that the route knows
};

// An answer in pieces.
struct GatewayStream {
  std::unique_ptr<TextStream> text;
  std::string type;
  std::string heartbeat;  // sent when nothing has come for a while; empty: nothing is
  bool poll = false;      // nobody says when there is more, it has to be asked
};

using GatewayOutcome = std::variant<GatewayAnswer, GatewayStream>;

// {"error", "code", "hint"} with the HTTP status that fits the code, or with another one.
GatewayAnswer ErrorAnswer(const Error& error);
GatewayAnswer ErrorAnswer(const Error& error, int status);

class Router {
 public:
  Router(GatewaySource& source, std::string secret) : source_(source), secret_(std::move(secret)) {}

  // Why a request is refused whatever its body is: wrong secret (401), no such route (404), wrong method (405). With `crowded`,
  // all but probes are (503).
  std::optional<GatewayAnswer> Refusal(const GatewayRequest& request, bool crowded) const;

  // Whether the body of such a request is a chunk of a file, for which other limits hold.
  static bool CarriesChunk(std::string_view target);

  // Answers a request that Refusal lets pass. `respond` is called once, now or later, from any thread.
  using Respond = std::function<void(GatewayOutcome)>;
  void Handle(const GatewayRequest& request, Respond respond);

  // For /metrics. 408 stands for a client that was cut in the middle of its request.
  void Count(int status) { ++answers_[status]; }

  void SetReady() { ready_ = true; }

 private:
  struct Target;
  struct Route;
  static Result<Target> ParseTarget(std::string_view text);
  static const Route* FindRoute(std::string_view path);

  void GetStatus(const Target& target, const std::string& body, const Respond& respond);
  void GetEvents(const Target& target, const std::string& body, const Respond& respond);
  void GetLogs(const Target& target, const std::string& body, const Respond& respond);
  void PostResize(const Target& target, const std::string& body, const Respond& respond);
  void PostStop(const Target& target, const std::string& body, const Respond& respond);
  void GetBundle(const Target& target, const std::string& body, const Respond& respond);
  void PostChunk(const Target& target, const std::string& body, const Respond& respond);
  void GetHealth(const Target& target, const std::string& body, const Respond& respond);
  void GetReady(const Target& target, const std::string& body, const Respond& respond);
  void GetMetrics(const Target& target, const std::string& body, const Respond& respond);

  static const Route kRoutes[];

  GatewaySource& source_;
  const std::string secret_;
  std::map<int, uint64_t> answers_;  // by status
  std::atomic<bool> ready_{false};
};

}  // namespace muster
