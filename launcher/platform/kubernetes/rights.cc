// Who may do what: the coordinator's Role, and that of the people who run jobs.
#include "launcher/platform/kubernetes/metadata.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/objects.h"

namespace muster::kubernetes {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kRbacGroup = "rbac.authorization.k8s.io";
constexpr const char* kRbacVersion = "rbac.authorization.k8s.io/v1";

// `name` limits the rule to objects of that name. It cannot limit `create`: the server does not know the name by then.
Json Rule(const std::string& group, const Words& resources, const Words& verbs,
          const std::string& name = "") {
  Json rule = {{"apiGroups", Json::array({group})}, {"resources", resources}, {"verbs", verbs}};
  if (!name.empty()) rule["resourceNames"] = Json::array({name});
  return rule;
}

Json RoleRef(const std::string& name) {
  return {{"apiGroup", kRbacGroup}, {"kind", "Role"}, {"name", name}};
}

}  // namespace

std::vector<Json> CoordinatorRights(const ClusterRun& run) {
  if (!run.service_account.empty()) return {};
  const std::string name = RunName(run.spec);
  const Json labels = Labels(run.spec);
  const Json account = OwnedObject(run, "v1", "ServiceAccount", name, labels);
  Json role = OwnedObject(run, kRbacVersion, "Role", name, labels);
  role["rules"] = Json::array({
      Rule("", {"pods"}, {"create", "delete", "get", "list", "watch"}),
      Rule("", {"configmaps"}, {"get", "patch", "update"}, name),
      Rule("coordination.k8s.io", {"leases"}, {"create"}),
      Rule("coordination.k8s.io", {"leases"}, {"get", "update"}, name),
      Rule("", {"events"}, {"list", "watch"}),
      Rule("", {"services"}, {"get"}, name),
  });
  Json binding = OwnedObject(run, kRbacVersion, "RoleBinding", name, labels);
  binding["roleRef"] = RoleRef(name);
  const Json subject = {
      {"kind", "ServiceAccount"}, {"name", name}, {"namespace", run.namespace_name}};
  binding["subjects"] = Json::array({subject});
  return {account, role, binding};
}

std::vector<Json> Rbac(const std::string& namespace_name, const std::string& user) {
  const std::string name = "muster-user";
  const Json metadata = {
      {"name", name}, {"namespace", namespace_name}, {"labels", {{kManagedByLabel, "muster"}}}};
  // Server-side apply is a patch, which creates too.
  const Json role = {
      {"apiVersion", kRbacVersion},
      {"kind", "Role"},
      {"metadata", metadata},
      {"rules",
       Json::array({
           Rule("", {"configmaps"},
                {"create", "get", "list", "watch", "patch", "update", "delete"}),
           Rule("", {"secrets", "services", "serviceaccounts"}, {"create", "get", "patch"}),
           Rule(kRbacGroup, {"roles", "rolebindings"}, {"create", "get", "patch"}),
           Rule("batch", {"jobs"}, {"create", "get", "list", "watch", "patch", "delete"}),
           Rule("", {"pods"}, {"create", "get", "list", "watch", "delete"}),
           Rule("", {"pods/log"}, {"get"}),
           Rule("", {"events"}, {"get", "list", "watch"}),
           Rule("coordination.k8s.io", {"leases"}, {"create", "get", "update"}),
           Rule("", {"services/proxy"}, {"create", "get"}),
       })}};
  const Json subject = {{"apiGroup", kRbacGroup}, {"kind", "User"}, {"name", user}};
  const Json binding = {{"apiVersion", kRbacVersion},
                        {"kind", "RoleBinding"},
                        {"metadata", metadata},
                        {"roleRef", RoleRef(name)},
                        {"subjects", Json::array({subject})}};
  return {role, binding};
}

}  // namespace muster::kubernetes
