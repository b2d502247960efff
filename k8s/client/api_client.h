// ApiClient: speaks to one Kubernetes API server, as one user: reads and writes objects, follows logs, reaches services.
//
// Objects are JSON as the server has them. Every call has one deadline, which holds for all of its attempts: what the server is too
// busy for is asked again (api_error.h says when). So a call may be carried out twice, or although it failed with kUnavailable or
// kDeadlineExceeded. Get, List, Patch, Apply and Delete with a UID bear that. Create does not: kAlreadyExists may mean that an
// earlier attempt of the same call made it; a caller who names its objects and marks them as its own can tell by looking.
//
// Threading: safe from any thread; calls block their caller only, at most until the deadline or until the stop token.
// Ownership: the client outlives the streams that it gives out.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "k8s/client/api_error.h"
#include "k8s/client/api_paths.h"
#include "k8s/client/credentials.h"
#include "k8s/client/http.h"
#include "k8s/client/kubeconfig.h"

namespace muster::k8s {

struct ApiClientOptions {
  bool http2 =
      true;  // many calls share a connection; HTTP/1.1 over many is faster for thousands of small ones
  int max_connections = 16;  // over HTTP/1.1, each stream under way takes one of them
  BackoffPolicy backoff;     // between attempts, unless the server says how long
  CredentialOptions credentials;
  size_t max_answer_bytes = size_t{256} << 20;  // of one answer; a list comes in pages
};

struct Call {
  TimePoint deadline;
  std::stop_token stop = {};
  bool retry =
      true;  // false: one attempt, apart from a second one with fresh credentials after a 401
  ApiFailure* failure = nullptr;  // if the call fails: is set to what its last attempt came to
};

inline Call Within(Duration time, const std::stop_token& stop = {}) {
  return {.deadline = MonotonicNow() + time, .stop = stop};
}
// With one attempt.
inline Call OnceWithin(Duration time, const std::stop_token& stop = {}) {
  return {.deadline = MonotonicNow() + time, .stop = stop, .retry = false};
}

struct ListOptions {
  std::string label_selector;
  std::string field_selector;
  int page_size = 500;
};

struct ObjectList {
  std::vector<nlohmann::json> items;  // without metadata.managedFields, half of their size
  std::string resource_version;       // of the whole, to watch from
};

struct WatchOptions {
  std::string label_selector;
  std::string field_selector;
  std::string resource_version;
  Duration server_timeout = std::chrono::minutes(5);  // after which the server ends the watch
};

enum class PatchKind { kMerge, kStrategic, kJson };

struct WriteOptions {
  bool dry_run = false;  // the server checks and answers, and changes nothing
  std::string field_manager = "muster";
};

struct DeleteOptions {
  std::string uid;          // only if it still is this object; else kAborted
  std::string propagation;  // "Background", "Foreground", "Orphan"; empty: the kind's default
  std::optional<int> grace_period_seconds;  // 0: at once
};

struct LogOptions {
  std::string container;
  bool follow = false;
  bool previous = false;
  bool timestamps = false;
  std::optional<int> tail_lines;
};

class ApiClient {
 public:
  // Reads the certificate authority; does not speak to the server yet. Errors: a bad file of `config`, kInternal.
  static Result<std::unique_ptr<ApiClient>> Create(ClientConfig config,
                                                   ApiClientOptions options = {});
  ~ApiClient();
  ApiClient(const ApiClient&) = delete;
  ApiClient& operator=(const ApiClient&) = delete;

  const ClientConfig& config() const { return config_; }

  // All calls: errors as in FailureOf (api_error.h) and HttpTransport::Send; kDataLoss if the answer is not what was asked for.

  Result<nlohmann::json> Get(const ObjectRef& object, const Call& call);
  // The JSON object at a path that is no object's: "/version".
  Result<nlohmann::json> GetDocument(const std::string& path, const Call& call);
  // All pages, as of one moment. If the server forgets that moment in between (410), the list starts again, a few times.
  Result<ObjectList> List(const Resource& resource, const std::string& namespace_name,
                          const ListOptions& options, const Call& call);
  // Makes `content` a new object of its collection, or, with a name and a subresource, e.g. "eviction", of that.
  Result<nlohmann::json> Create(const ObjectRef& where, const nlohmann::json& content,
                                const WriteOptions& options, const Call& call);
  // Replaces all of it; kAborted if `content` has a resourceVersion that is not the object's any more.
  Result<nlohmann::json> Replace(const ObjectRef& object, const nlohmann::json& content,
                                 const WriteOptions& options, const Call& call);
  Result<nlohmann::json> Patch(const ObjectRef& object, PatchKind kind, const nlohmann::json& patch,
                               const WriteOptions& options, const Call& call);
  // Server-side apply: makes or changes it so that the fields in `content` have these values. With `force`, also those that
  // another field manager has set; else that is kAborted. `content` needs its apiVersion and kind.
  Result<nlohmann::json> Apply(const ObjectRef& object, const nlohmann::json& content, bool force,
                               const WriteOptions& options, const Call& call);
  // Asks for its deletion; it may still be there for its grace period. kNotFound: it is gone.
  Status Delete(const ObjectRef& object, const DeleteOptions& options, const Call& call);

  // The log of a pod, to read as it comes; the deadline holds until it begins.
  Result<std::unique_ptr<HttpStream>> PodLog(const std::string& namespace_name,
                                             const std::string& pod, const LogOptions& options,
                                             const Call& call);
  // A watch, one JSON object after the other (watch.h makes something of them). One attempt.
  Result<std::unique_ptr<HttpStream>> Watch(const Resource& resource,
                                            const std::string& namespace_name,
                                            const WatchOptions& options, const Call& call);

  // HTTP to a service, through the API server. `path` begins with a slash and may have a query. The answer is the service's,
  // whatever its status, unless it is a Status object, which is the API server's own. A POST is sent once only.
  Result<HttpResponse> ProxyGet(const ProxyTarget& target, const std::string& path,
                                const Call& call);
  Result<HttpResponse> ProxyPost(const ProxyTarget& target, const std::string& path,
                                 std::string body, const Call& call);
  // The same as a stream; errors also for statuses of 300 and more.
  Result<std::unique_ptr<HttpStream>> ProxyStream(const ProxyTarget& target,
                                                  const std::string& path, const Call& call);

 private:
  struct Request {
    std::string method;
    std::string path;  // with the query
    std::string body;
    std::string content_type = "application/json";
    bool any_status = false;           // the service's, behind a proxy
    std::vector<std::string> headers;  // more of them
  };

  ApiClient(ClientConfig config, ApiClientOptions options,
            std::unique_ptr<HttpTransport> transport);

  // Repeats `attempt` until it succeeds, or should not be tried again.
  template <typename T>
  Result<T> Attempts(const Request& request, const Call& call,
                     const std::function<tl::expected<T, ApiFailure>(HttpRequest)>& attempt);
  Result<HttpResponse> Send(const Request& request, const Call& call);
  Result<std::unique_ptr<HttpStream>> Open(const Request& request, const Call& call);
  Result<nlohmann::json> SendForObject(const Request& request, const Call& call);
  Result<nlohmann::json> Write(Request request, const nlohmann::json& content, const Call& call);
  // One attempt at a list; sets `*expired` if a page was refused with 410.
  Result<ObjectList> ListOnce(const std::string& path, const ListOptions& options, const Call& call,
                              bool* expired);
  HttpRequest Prepare(const Request& request, const Call& call,
                      std::shared_ptr<const Credentials> credentials) const;

  const ClientConfig config_;
  const ApiClientOptions options_;
  CredentialSource credentials_;
  std::unique_ptr<HttpTransport> transport_;
};

}  // namespace muster::k8s
