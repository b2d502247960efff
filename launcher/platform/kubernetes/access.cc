#include "launcher/platform/kubernetes/access.h"

#include <algorithm>

#include "k8s/client/json_fields.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

bool IsOfAccounts(const Right& right) {
  return right.resource == "roles" || right.resource == "rolebindings" ||
         right.resource == "serviceaccounts";
}

}  // namespace

std::vector<Right> RightsIn(const Json& role) {
  std::vector<Right> rights;
  for (const Json& rule : role.at("rules")) {
    if (rule.contains("resourceNames")) continue;
    for (const Json& group : rule.at("apiGroups")) {
      for (const Json& resource : rule.at("resources")) {
        for (const Json& verb : rule.at("verbs")) rights.push_back({group, resource, verb});
      }
    }
  }
  return rights;
}

std::vector<Right> RightsToRun(bool own_account) {
  std::vector<Right> rights = RightsIn(Rbac("", "").front());
  if (!own_account) std::erase_if(rights, IsOfAccounts);
  return rights;
}

json ReviewOf(const Right& right, const std::string& namespace_name) {
  const size_t slash = right.resource.find('/');
  json attributes = {{"namespace", namespace_name},
                     {"verb", right.verb},
                     {"group", right.group},
                     {"resource", right.resource.substr(0, slash)}};
  if (slash != right.resource.npos) attributes["subresource"] = right.resource.substr(slash + 1);
  return {{"apiVersion", "authorization.k8s.io/v1"},
          {"kind", "SelfSubjectAccessReview"},
          {"spec", {{"resourceAttributes", attributes}}}};
}

bool IsAllowed(const json& review) {
  const json& allowed = k8s::At(review, {"status", "allowed"});
  return allowed.is_boolean() && allowed.get<bool>();
}

std::string RightsText(const std::vector<Right>& rights) {
  std::string text;
  for (size_t i = 0; i < rights.size(); ++i) {
    const Right& right = rights[i];
    text += right.verb;
    const bool more = i + 1 < rights.size() && rights[i + 1].resource == right.resource &&
                      rights[i + 1].group == right.group;
    if (more) {
      text += ", ";
      continue;
    }
    text += " " + right.resource + (right.group.empty() ? "" : "." + right.group);
    if (i + 1 < rights.size()) text += "; ";
  }
  return text;
}

Result<std::vector<Right>> MissingRights(k8s::ApiClient& api, const std::string& namespace_name,
                                         const std::vector<Right>& rights, const k8s::Call& call) {
  std::vector<Right> missing;
  for (const Right& right : rights) {
    MUSTER_ASSIGN(const json review,
                  api.Create({.resource = k8s::kAccessReviews}, ReviewOf(right, namespace_name),
                             {.field_manager = ""}, call));
    if (!IsAllowed(review)) missing.push_back(right);
  }
  return missing;
}

}  // namespace muster::kubernetes
