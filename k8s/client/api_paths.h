// ApiPaths: where things are in the API: paths and queries. Pure.
//
// The layout is that of the Kubernetes documentation, reference/using-api/api-concepts: the core group is below /api, the others
// are below /apis.
//
// Threading: plain values and free functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::k8s {

// A kind of object.
struct Resource {
  std::string group;  // empty: the core group
  std::string version = "v1";
  std::string plural;  // "pods"
  bool namespaced = true;
};

inline const Resource kPods{.plural = "pods"};
inline const Resource kConfigMaps{.plural = "configmaps"};
inline const Resource kSecrets{.plural = "secrets"};
inline const Resource kServices{.plural = "services"};
inline const Resource kServiceAccounts{.plural = "serviceaccounts"};
inline const Resource kEvents{.plural = "events"};
inline const Resource kNodes{.plural = "nodes", .namespaced = false};
inline const Resource kNamespaces{.plural = "namespaces", .namespaced = false};
inline const Resource kResourceQuotas{.plural = "resourcequotas"};
inline const Resource kAccessReviews{
    .group = "authorization.k8s.io", .plural = "selfsubjectaccessreviews", .namespaced = false};
inline const Resource kJobs{.group = "batch", .plural = "jobs"};
inline const Resource kLeases{.group = "coordination.k8s.io", .plural = "leases"};
inline const Resource kRoles{.group = "rbac.authorization.k8s.io", .plural = "roles"};
inline const Resource kRoleBindings{.group = "rbac.authorization.k8s.io", .plural = "rolebindings"};

// One object, or a part of it. For cluster-wide kinds the namespace does not count.
struct ObjectRef {
  Resource resource;
  std::string namespace_name;
  std::string name;
  std::string subresource;  // "status", "eviction", "log"
};

struct ProxyTarget {
  std::string namespace_name;
  std::string service;
  std::string port;                  // number or name
  bool https = false;                // from the API server to the service
  std::vector<std::string> headers;  // "Name: value", for the service; never in errors
};

using Query = std::vector<std::pair<std::string, std::string>>;

// "/api/v1/namespaces/NS/pods"; with an empty namespace, those of all namespaces.
std::string CollectionPath(const Resource& resource, std::string_view namespace_name);
// "/api/v1/namespaces/NS/pods/NAME/status"
std::string ObjectPath(const ObjectRef& object);
// "/api/v1/namespaces/NS/services/http:NAME:PORT/proxy" and `path`, which begins with a slash and is not escaped again.
std::string ProxyPath(const ProxyTarget& target, std::string_view path);

// `path?a=b&c=d`, escaped; pairs with an empty value are left out.
std::string WithQuery(std::string path, const Query& query);

// Percent-encodes all that is not unreserved in RFC 3986.
std::string Escape(std::string_view text);

}  // namespace muster::k8s
