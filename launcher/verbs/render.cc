// What `launcher render` prints.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/jobfile/reader.h"
#include "launcher/platform/kubernetes/objects.h"
#include "launcher/platform/kubernetes/yaml.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using kubernetes::ClusterRun;
using kubernetes::Json;

// The image that is built with this launcher.
constexpr const char* kDefaultImage = "muster:" MUSTER_VERSION;

struct Listed {
  std::string comment;
  Json object;
};

Result<std::string> NamespaceOf(const Invocation& invocation) {
  if (!invocation.Has("namespace")) return "default";
  const std::string name = invocation.Get("namespace");
  if (IsJobName(name)) return name;  // both are DNS labels
  return Err(
      Code::kInvalidArgument,
      "--namespace is \"{}\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
      "letter or digit",
      name.substr(0, 100));
}

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

// The value of `flag`, if it is given, must be `good`.
Status CheckName(const Invocation& invocation, const std::string& flag,
                 bool (*good)(std::string_view)) {
  const std::string value = invocation.Get(flag);
  if (!invocation.Has(flag) || good(value)) return {};
  return Err(Code::kInvalidArgument, "--{} is \"{}\", which is no {}'s name", flag,
             value.substr(0, 100), flag);
}

Result<std::vector<Listed>> ObjectsOfJob(const Invocation& invocation, const std::string& space) {
  if (invocation.Has("user")) {
    return Err(Code::kInvalidArgument,
               "--user says whose rights --rbac prints, which is not given");
  }
  MUSTER_TRY(CheckName(invocation, "image", IsImageName));
  MUSTER_TRY(CheckName(invocation, "service-account", IsObjectName));
  MUSTER_ASSIGN(RunPlan plan, PlanRun(invocation, PlanFor::kCluster));
  ClusterRun run{.spec = std::move(plan.spec),
                 .file = std::move(plan.file),
                 .namespace_name = space,
                 .service_account = invocation.Get("service-account"),
                 .owner_uid = "<uid of the ConfigMap>",
                 .coordinator_ip = "<ClusterIP of the Service>"};
  run.spec.id = std::string(32, '0');
  run.image =
      invocation.Has("image") ? invocation.Get("image") : run.file.image.value_or(kDefaultImage);
  return ObjectsOf(run);
}

}  // namespace

Result<int> ShowObjects(const Invocation& invocation) {
  MUSTER_ASSIGN(const std::string space, NamespaceOf(invocation));
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
