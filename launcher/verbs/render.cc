// What `launcher render` prints.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/platform/kubernetes/objects.h"
#include "launcher/platform/kubernetes/yaml.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using kubernetes::ClusterRun;
using kubernetes::Json;

struct Listed {
  std::string comment;
  Json object;
};

Result<std::vector<Listed>> RightsOfUsers(const Invocation& invocation, const std::string& space) {
  if (invocation.Has("file") || invocation.has_program) {
    return WithHint(Err(Code::kInvalidArgument, "--rbac is about all jobs of a namespace"),
                    "leave -f and the program out");
  }
  const std::string user = invocation.Has("user") ? invocation.Get("user") : "<name of the user>";
  const bool printable =
      std::all_of(user.begin(), user.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (user.empty() || !printable) {
    return Err(Code::kInvalidArgument, "--user is no name of a user, such as ada@example.com");
  }
  std::vector<Json> objects = kubernetes::Rbac(space, user);
  return std::vector<Listed>{{"All that people need who run jobs", objects.at(0)},
                             {"", objects.at(1)}};
}

std::string PoolComment(const Pool& pool) {
  const int count = pool.device_count;
  return fmt::format("Pool {}: {} in up to {} pods like this one, made by the coordinator",
                     pool.name, WorkersText(pool.workers.min, pool.workers.max),
                     pool.workers.max / count);
}

std::vector<Listed> ObjectsOf(const ClusterRun& run) {
  std::vector<Listed> listed;
  listed.push_back(
      {"The run: it owns all others, and deleting it deletes them", kubernetes::RunConfigMap(run)});
  listed.push_back({"What coordinator and workers prove themselves with",
                    kubernetes::RunSecret(run, "<64 hex digits, new for each run>")});
  for (Json& object : kubernetes::CoordinatorRights(run)) {
    const bool first = object["kind"] == "ServiceAccount";
    listed.push_back({first ? "What the coordinator may do" : "", std::move(object)});
  }
  listed.push_back({"The coordinator's address", kubernetes::CoordinatorService(run)});
  listed.push_back({"Keeps one coordinator running", kubernetes::CoordinatorJob(run)});
  for (const Pool& pool : kubernetes::PoolsOf(run)) {
    listed.push_back({PoolComment(pool), kubernetes::WorkerPod(run, pool, 0)});
  }
  return listed;
}

Result<std::vector<Listed>> ObjectsOfJob(const Invocation& invocation, const std::string& space) {
  if (invocation.Has("user")) {
    return Err(Code::kInvalidArgument,
               "--user says whose rights --rbac prints, which is not given");
  }
  MUSTER_ASSIGN(const ClusterPlan plan, PlanClusterRun(invocation, space));
  return ObjectsOf(plan.run);
}

}  // namespace

Result<int> ShowObjects(const Invocation& invocation) {
  MUSTER_ASSIGN(const std::string space, NamespaceOf(invocation, "default"));
  MUSTER_ASSIGN(const std::vector<Listed> all, invocation.Has("rbac")
                                                   ? RightsOfUsers(invocation, space)
                                                   : ObjectsOfJob(invocation, space));
  Json list = {{"apiVersion", "v1"}, {"kind", "List"}, {"items", Json::array()}};
  std::string text;
  for (const Listed& listed : all) {
    list["items"].push_back(listed.object);
    text += "---\n";
    if (!listed.comment.empty()) text += fmt::format("# {}\n", listed.comment);
    text += kubernetes::ToYaml(listed.object);
  }
  Print(invocation.json() ? list.dump(2) + "\n" : text);
  return 0;
}

}  // namespace muster
