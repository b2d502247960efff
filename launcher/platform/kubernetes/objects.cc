#include "launcher/platform/kubernetes/objects.h"

#include "launcher/platform/kubernetes/metadata.h"
#include "launcher/platform/kubernetes/names.h"

namespace muster::kubernetes {

Json Labels(const JobSpec& spec, std::string_view component) {
  Json labels = {{kManagedByLabel, "muster"}, {kJobLabel, spec.name}, {kRunLabel, RunLabel(spec)}};
  if (!component.empty()) labels[std::string(kComponentLabel)] = component;
  return labels;
}

Json OwnedObject(const ClusterRun& run, std::string_view api_version, std::string_view kind,
                 const std::string& name, const Json& labels) {
  const Json owner = {{"apiVersion", "v1"},
                      {"kind", "ConfigMap"},
                      {"name", RunName(run.spec)},
                      {"uid", run.owner_uid},
                      {"controller", true}};
  return {{"apiVersion", api_version},
          {"kind", kind},
          {"metadata",
           {{"name", name},
            {"namespace", run.namespace_name},
            {"labels", labels},
            {"ownerReferences", Json::array({owner})}}}};
}

Json RunConfigMap(const ClusterRun& run) {
  return {
      {"apiVersion", "v1"},
      {"kind", "ConfigMap"},
      {"metadata",
       {{"name", RunName(run.spec)},
        {"namespace", run.namespace_name},
        {"labels", Labels(run.spec)}}},
      {"data",
       {{kJobKey, run.spec.ToJson()}, {kJobFileKey, ToJson(run.file)}, {kImageKey, run.image}}}};
}

Json RunSecret(const ClusterRun& run, std::string_view secret) {
  Json object = OwnedObject(run, "v1", "Secret", RunName(run.spec), Labels(run.spec));
  object["type"] = "Opaque";
  object["immutable"] = true;
  object["stringData"] = {{kSecretKey, secret}};
  return object;
}

Json CoordinatorService(const ClusterRun& run) {
  Json object = OwnedObject(run, "v1", "Service", RunName(run.spec), Labels(run.spec));
  const auto port = [](const char* name, int number) -> Json {
    return {{"name", name}, {"port", number}, {"targetPort", number}, {"protocol", "TCP"}};
  };
  object["spec"] = {{"type", "ClusterIP"},
                    {"selector", Labels(run.spec, "coordinator")},
                    {"ports", Json::array({port("grpc", kGrpcPort), port("http", kHttpPort)})}};
  return object;
}

std::vector<Pool> PoolsOf(const ClusterRun& run) {
  if (!run.file.pools.empty()) return run.file.pools;
  Pool pool;
  pool.name = "workers";
  pool.workers = {run.spec.min_workers, run.spec.max_workers};
  return {pool};
}

}  // namespace muster::kubernetes
