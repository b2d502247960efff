#include "k8s/client/api_client.h"

#include <algorithm>
#include <random>
#include <utility>

#include "k8s/client/json_fields.h"
#include "runtime/base/pause.h"

namespace muster::k8s {
namespace {

using nlohmann::json;

constexpr size_t kMaxErrorBytes = size_t{1} << 20;
constexpr int kListRestarts = 3;
// Far more than any cluster has; a server that always says "continue" must not keep us for ever.
constexpr size_t kMaxListed = 1'000'000;

double Random01() {
  thread_local std::minstd_rand generator(std::random_device{}());
  return std::uniform_real_distribution<double>(0, 1)(generator);
}

const char* ContentType(PatchKind kind) {
  switch (kind) {
    case PatchKind::kMerge:
      return "application/merge-patch+json";
    case PatchKind::kStrategic:
      return "application/strategic-merge-patch+json";
    case PatchKind::kJson:
      return "application/json-patch+json";
  }
  return "";
}

Query WriteQuery(const WriteOptions& options) {
  return {{"dryRun", options.dry_run ? "All" : ""}, {"fieldManager", options.field_manager}};
}

std::string IfSet(const std::optional<int>& number) {
  return number ? std::to_string(*number) : std::string();
}

void DropManagedFields(json* object) {
  if (object->is_object() && object->contains("metadata") && (*object)["metadata"].is_object()) {
    (*object)["metadata"].erase("managedFields");
  }
}

ApiFailure NoAnswer(Error error) { return {.error = std::move(error)}; }

}  // namespace

Result<std::unique_ptr<ApiClient>> ApiClient::Create(ClientConfig config,
                                                     ApiClientOptions options) {
  HttpOptions http;
  MUSTER_ASSIGN(http.certificate_authority_pem, CertificateAuthority(config.cluster));
  http.verify_server = !config.cluster.insecure_skip_tls_verify;
  http.tls_server_name = config.cluster.tls_server_name;
  http.proxy_url = config.cluster.proxy_url;
  http.compression = !config.cluster.disable_compression;
  http.http2 = options.http2;
  http.max_connections = options.max_connections;
  MUSTER_ASSIGN(std::unique_ptr<HttpTransport> transport, HttpTransport::Create(std::move(http)));
  return std::unique_ptr<ApiClient>(
      new ApiClient(std::move(config), std::move(options), std::move(transport)));
}

ApiClient::ApiClient(ClientConfig config, ApiClientOptions options,
                     std::unique_ptr<HttpTransport> transport)
    : config_(std::move(config)),
      options_(std::move(options)),
      credentials_(config_.cluster, config_.user, options_.credentials),
      transport_(std::move(transport)) {}

ApiClient::~ApiClient() = default;

HttpRequest ApiClient::Prepare(const Request& request, const Call& call,
                               std::shared_ptr<const Credentials> credentials) const {
  HttpRequest http;
  http.method = request.method;
  http.url = config_.cluster.server + request.path;
  http.headers = {"Accept: application/json"};
  if (request.any_status) http.headers = {"Accept: */*"};
  if (!request.body.empty()) http.headers.push_back("Content-Type: " + request.content_type);
  http.headers.insert(http.headers.end(), request.headers.begin(), request.headers.end());
  const User& user = config_.user;
  if (!user.impersonate.empty()) http.headers.push_back("Impersonate-User: " + user.impersonate);
  if (!user.impersonate_uid.empty())
    http.headers.push_back("Impersonate-Uid: " + user.impersonate_uid);
  for (const auto& group : user.impersonate_groups) {
    http.headers.push_back("Impersonate-Group: " + group);
  }
  for (const auto& [name, values] : user.impersonate_extra) {
    for (const std::string& value : values) {
      http.headers.push_back("Impersonate-Extra-" + Escape(name) + ": " + value);
    }
  }
  http.body = request.body;
  http.credentials = std::move(credentials);
  http.deadline = call.deadline;
  http.stop = call.stop;
  http.max_body_bytes = options_.max_answer_bytes;
  return http;
}

template <typename T>
Result<T> ApiClient::Attempts(
    const Request& request, const Call& call,
    const std::function<tl::expected<T, ApiFailure>(HttpRequest)>& attempt) {
  Retry retry(options_.backoff);
  bool fresh_credentials = false;
  while (true) {
    MUSTER_ASSIGN(const auto credentials, credentials_.Get(call.deadline));
    tl::expected<T, ApiFailure> result = attempt(Prepare(request, call, credentials));
    if (result) return std::move(*result);
    ApiFailure& failure = result.error();
    if (failure.status == 401 && !fresh_credentials) {
      // A token that was replaced, or has just expired.
      credentials_.Invalidate(credentials);
      fresh_credentials = true;
      continue;
    }
    if (call.failure != nullptr) *call.failure = failure;
    std::optional<Duration> wait;
    if (call.retry) wait = retry.Next(failure, MonotonicNow(), call.deadline, Random01());
    if (!wait) return tl::unexpected<Error>(std::move(failure.error));
    if (!PauseFor(*wait, call.stop)) return Err(Code::kCancelled, "{}: given up", request.path);
  }
}

Result<HttpResponse> ApiClient::Send(const Request& request, const Call& call) {
  const std::string what = request.method + " " + request.path.substr(0, request.path.find('?'));
  using Outcome = tl::expected<HttpResponse, ApiFailure>;
  return Attempts<HttpResponse>(request, call, [&](HttpRequest http) -> Outcome {
    Result<HttpResponse> response = transport_->Send(std::move(http));
    if (!response) return tl::unexpected<ApiFailure>(NoAnswer(std::move(response.error())));
    if (response->head.status < 300) return std::move(*response);
    if (request.any_status) {
      const json body = json::parse(response->body, nullptr, /*allow_exceptions=*/false);
      if (StringAt(body, {"kind"}) != "Status") return std::move(*response);
    }
    return tl::unexpected<ApiFailure>(FailureOf(*response, what));
  });
}

Result<std::unique_ptr<HttpStream>> ApiClient::Open(const Request& request, const Call& call) {
  const std::string what = request.method + " " + request.path.substr(0, request.path.find('?'));
  using Outcome = tl::expected<std::unique_ptr<HttpStream>, ApiFailure>;
  return Attempts<std::unique_ptr<HttpStream>>(request, call, [&](HttpRequest http) -> Outcome {
    Result<std::unique_ptr<HttpStream>> stream = transport_->Open(std::move(http));
    if (!stream) return tl::unexpected<ApiFailure>(NoAnswer(std::move(stream.error())));
    if ((*stream)->head().status < 300) return std::move(*stream);
    HttpResponse response{(*stream)->head(), {}};
    while (response.body.size() < kMaxErrorBytes) {
      // If the explanation does not come whole, what came of it has to do.
      const Result<std::string> bytes = (*stream)->Read(call.deadline);
      if (!bytes || bytes->empty()) break;
      response.body += *bytes;
    }
    return tl::unexpected<ApiFailure>(FailureOf(response, what));
  });
}

Result<json> ApiClient::SendForObject(const Request& request, const Call& call) {
  MUSTER_ASSIGN(const HttpResponse response, Send(request, call));
  const std::string what = request.method + " " + request.path.substr(0, request.path.find('?'));
  MUSTER_ASSIGN(json object, FromText(response.body, what));
  if (object.is_object()) return object;
  return WithHint(Err(Code::kDataLoss, "{}: the answer is no object", what),
                  "is server in the kubeconfig an API server?");
}

Result<json> ApiClient::Get(const ObjectRef& object, const Call& call) {
  return SendForObject({.method = "GET", .path = ObjectPath(object)}, call);
}

Result<json> ApiClient::GetDocument(const std::string& path, const Call& call) {
  return SendForObject({.method = "GET", .path = path}, call);
}

Result<ObjectList> ApiClient::List(const Resource& resource, const std::string& namespace_name,
                                   const ListOptions& options, const Call& call) {
  const std::string path = CollectionPath(resource, namespace_name);
  for (int restarts = 0;; ++restarts) {
    bool expired = false;
    Result<ObjectList> list = ListOnce(path, options, call, &expired);
    if (list || !expired || restarts == kListRestarts) return list;
  }
}

Result<ObjectList> ApiClient::ListOnce(const std::string& path, const ListOptions& options,
                                       const Call& call, bool* expired) {
  ObjectList list;
  std::string next;
  do {
    const Query query = {{"labelSelector", options.label_selector},
                         {"fieldSelector", options.field_selector},
                         {"limit", std::to_string(options.page_size)},
                         {"continue", next}};
    Result<json> page = SendForObject({.method = "GET", .path = WithQuery(path, query)}, call);
    if (!page) {
      *expired = !next.empty() && page.error().code == Code::kOutOfRange;
      return tl::unexpected<Error>(std::move(page.error()));
    }
    const auto items = page->find("items");
    if (items == page->end() || !(items->is_array() || items->is_null())) {
      return Err(Code::kDataLoss, "GET {}: the answer is no list", path);
    }
    for (json& item : *items) {
      DropManagedFields(&item);
      list.items.push_back(std::move(item));
    }
    list.resource_version = StringAt(*page, {"metadata", "resourceVersion"});
    next = StringAt(*page, {"metadata", "continue"});
    if (list.items.size() > kMaxListed) {
      return WithHint(
          Err(Code::kResourceExhausted, "GET {}: more than {} objects", path, kMaxListed),
          "use a label selector");
    }
  } while (!next.empty());
  return list;
}

Result<json> ApiClient::Write(Request request, const json& content, const Call& call) {
  MUSTER_ASSIGN(request.body, ToText(content));
  return SendForObject(request, call);
}

Result<json> ApiClient::Create(const ObjectRef& where, const json& content,
                               const WriteOptions& options, const Call& call) {
  const std::string path =
      where.name.empty() ? CollectionPath(where.resource, where.namespace_name) : ObjectPath(where);
  return Write({.method = "POST", .path = WithQuery(path, WriteQuery(options))}, content, call);
}

Result<json> ApiClient::Replace(const ObjectRef& object, const json& content,
                                const WriteOptions& options, const Call& call) {
  const std::string path = WithQuery(ObjectPath(object), WriteQuery(options));
  return Write({.method = "PUT", .path = path}, content, call);
}

Result<json> ApiClient::Patch(const ObjectRef& object, PatchKind kind, const json& patch,
                              const WriteOptions& options, const Call& call) {
  const std::string path = WithQuery(ObjectPath(object), WriteQuery(options));
  return Write({.method = "PATCH", .path = path, .content_type = ContentType(kind)}, patch, call);
}

Result<json> ApiClient::Apply(const ObjectRef& object, const json& content, bool force,
                              const WriteOptions& options, const Call& call) {
  Query query = WriteQuery(options);
  query.emplace_back("force", force ? "true" : "");
  json named = content;  // the server wants the name in there too
  named["metadata"]["name"] = object.name;
  // Its content is YAML, and so JSON.
  return Write({.method = "PATCH",
                .path = WithQuery(ObjectPath(object), query),
                .content_type = "application/apply-patch+yaml"},
               named, call);
}

Status ApiClient::Delete(const ObjectRef& object, const DeleteOptions& options, const Call& call) {
  json content = {{"apiVersion", "v1"}, {"kind", "DeleteOptions"}};
  if (!options.uid.empty()) content["preconditions"] = {{"uid", options.uid}};
  if (!options.propagation.empty()) content["propagationPolicy"] = options.propagation;
  if (options.grace_period_seconds) content["gracePeriodSeconds"] = *options.grace_period_seconds;
  MUSTER_TRY(Write({.method = "DELETE", .path = ObjectPath(object)}, content, call));
  return {};
}

Result<std::unique_ptr<HttpStream>> ApiClient::PodLog(const std::string& namespace_name,
                                                      const std::string& pod,
                                                      const LogOptions& options, const Call& call) {
  const Query query = {{"container", options.container},
                       {"follow", options.follow ? "true" : ""},
                       {"previous", options.previous ? "true" : ""},
                       {"timestamps", options.timestamps ? "true" : ""},
                       {"tailLines", IfSet(options.tail_lines)}};
  const ObjectRef log{kPods, namespace_name, pod, "log"};
  return Open({.method = "GET", .path = WithQuery(ObjectPath(log), query), .any_status = true},
              call);
}

Result<std::unique_ptr<HttpStream>> ApiClient::Watch(const Resource& resource,
                                                     const std::string& namespace_name,
                                                     const WatchOptions& options,
                                                     const Call& call) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(options.server_timeout);
  const Query query = {{"watch", "true"},
                       {"allowWatchBookmarks", "true"},
                       {"labelSelector", options.label_selector},
                       {"fieldSelector", options.field_selector},
                       {"resourceVersion", options.resource_version},
                       {"timeoutSeconds", std::to_string(seconds.count())}};
  Call once = call;
  once.retry = false;
  return Open({.method = "GET", .path = WithQuery(CollectionPath(resource, namespace_name), query)},
              once);
}

Result<HttpResponse> ApiClient::ProxyGet(const ProxyTarget& target, const std::string& path,
                                         const Call& call) {
  return Send({.method = "GET",
               .path = ProxyPath(target, path),
               .any_status = true,
               .headers = target.headers},
              call);
}

Result<HttpResponse> ApiClient::ProxyPost(const ProxyTarget& target, const std::string& path,
                                          std::string body, const Call& call) {
  Call once = call;
  once.retry = false;
  return Send({.method = "POST",
               .path = ProxyPath(target, path),
               .body = std::move(body),
               .any_status = true,
               .headers = target.headers},
              once);
}

Result<std::unique_ptr<HttpStream>> ApiClient::ProxyStream(const ProxyTarget& target,
                                                           const std::string& path,
                                                           const Call& call) {
  return Open({.method = "GET",
               .path = ProxyPath(target, path),
               .any_status = true,
               .headers = target.headers},
              call);
}

}  // namespace muster::k8s
