#include "k8s/client/api_paths.h"

#include <fmt/format.h>

namespace muster::k8s {

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      escaped += c;
    } else {
      escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

std::string CollectionPath(const Resource& resource, std::string_view namespace_name) {
  const std::string root =
      resource.group.empty() ? "/api" : fmt::format("/apis/{}", resource.group);
  if (!resource.namespaced || namespace_name.empty()) {
    return fmt::format("{}/{}/{}", root, resource.version, resource.plural);
  }
  return fmt::format("{}/{}/namespaces/{}/{}", root, resource.version, Escape(namespace_name),
                     resource.plural);
}

std::string ObjectPath(const ObjectRef& object) {
  const std::string collection = CollectionPath(object.resource, object.namespace_name);
  return fmt::format("{}/{}{}{}", collection, Escape(object.name),
                     object.subresource.empty() ? "" : "/", object.subresource);
}

std::string ProxyPath(const ProxyTarget& target, std::string_view path) {
  return fmt::format("{}/{}:{}:{}/proxy{}", CollectionPath(kServices, target.namespace_name),
                     target.https ? "https" : "http", Escape(target.service), Escape(target.port),
                     path);
}

std::string WithQuery(std::string path, const Query& query) {
  char separator = '?';
  for (const auto& [name, value] : query) {
    if (value.empty()) continue;
    path += fmt::format("{}{}={}", separator, Escape(name), Escape(value));
    separator = '&';
  }
  return path;
}

}  // namespace muster::k8s
