// Access: which rights a user needs to run jobs, and which of them he lacks.
//
// Threading: pure functions, but for MissingRights, which blocks its caller until the deadline at most.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "k8s/client/api_client.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {

struct Right {
  std::string group;     // of the API; empty: the core group
  std::string resource;  // "pods", "pods/log"
  std::string verb;
  bool operator==(const Right&) const = default;
};

// What the rules of a Role allow, one by one; rules with resource names are left out.
std::vector<Right> RightsIn(const Json& role);

// What `launcher run` needs in a namespace: all that `launcher render --rbac` gives. A run that brings no account of its own
// (--service-account) does without making Roles, RoleBindings and ServiceAccounts.
std::vector<Right> RightsToRun(bool own_account);

// The question to the API server whether we have a right, and its answer.
nlohmann::json ReviewOf(const Right& right, const std::string& namespace_name);
bool IsAllowed(const nlohmann::json& review);

// "create, patch roles.rbac.authorization.k8s.io; get pods/log", in the order of `rights`.
std::string RightsText(const std::vector<Right>& rights);

// Those of `rights` that we do not have there. Errors: those of the API client.
Result<std::vector<Right>> MissingRights(k8s::ApiClient& api, const std::string& namespace_name,
                                         const std::vector<Right>& rights, const k8s::Call& call);

}  // namespace muster::kubernetes
