#include "tests/cluster/node/pod_plan.h"

#include <map>

namespace muster::cluster {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

std::string TextAt(const json& object, const char* pointer, std::string fallback = "") {
  const Pointer at(pointer);
  return object.contains(at) && object[at].is_string() ? object[at].get<std::string>() : fallback;
}

const json& ListAt(const json& object, const char* pointer) {
  static const json kEmpty = json::array();
  const Pointer at(pointer);
  return object.contains(at) ? object[at] : kEmpty;
}

// A field of the pod as the downward API names it; annotations and labels are asked for as metadata.labels['name'].
std::string DownwardField(const json& pod, const PodPlace& place, const std::string& path) {
  if (path == "status.podIP" || path == "status.podIPs") return place.ip;
  if (path == "spec.nodeName") return place.node;
  if (path == "spec.serviceAccountName") return TextAt(pod, "/spec/serviceAccountName");
  const size_t quote = path.find("['");
  if (quote != std::string::npos) {
    const std::string kind = path.substr(9, quote - 9);  // after "metadata."
    const std::string name = path.substr(quote + 2, path.size() - quote - 4);
    return pod["metadata"].value(kind, json::object()).value(name, "");
  }
  if (path.starts_with("metadata.")) return TextAt(pod, ("/metadata/" + path.substr(9)).c_str());
  return "";
}

using Variables = std::map<std::string, std::string>;

// As a kubelet does: $(NAME) is the value of a variable that is known, else it stays; $$ is a $.
std::string Expand(const std::string& text, const Variables& known) {
  std::string expanded;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '$' && i + 1 < text.size() ? text[i + 1] : 0;
    const size_t close = next == '(' ? text.find(')', i) : text.npos;
    if (next == '$') {
      expanded += '$';
      ++i;
    } else if (close != text.npos) {
      const auto found = known.find(text.substr(i + 2, close - i - 2));
      expanded += found != known.end() ? found->second : text.substr(i, close - i + 1);
      i = close;
    } else {
      expanded += text[i];
    }
  }
  return expanded;
}

// The variables of a container. Values may name those before them.
Variables ReadVariables(const json& container, const json& pod, const PodPlace& place) {
  const size_t colon = place.api_server.rfind(':');
  Variables known{{"KUBERNETES_SERVICE_HOST", place.api_server.substr(0, colon)},
                  {"KUBERNETES_SERVICE_PORT", place.api_server.substr(colon + 1)}};
  for (const json& variable : ListAt(container, "/env")) {
    const std::string field = TextAt(variable, "/valueFrom/fieldRef/fieldPath");
    known[variable.value("name", "")] = field.empty() ? Expand(variable.value("value", ""), known)
                                                      : DownwardField(pod, place, field);
  }
  return known;
}

// What NVIDIA's container runtime does for a pod with GPUs: it sees these, and a driver for them.
void AddGpus(const json& container, const PodPlace& place, Variables& environment) {
  const std::string count = TextAt(container, "/resources/limits/nvidia.com~1gpu");
  if (count.empty() || place.gpu_driver.empty()) return;
  environment["MUSTER_LIBCUDA"] = place.gpu_driver;
  environment["MUSTER_STANDIN_GPUS"] = count;
  environment["MUSTER_GPU_CHECK"] = "brief";  // a stand-in is slow
}

// What a volume holds, or one part of a projected volume: they differ in how they name a Secret only.
Status AddFiles(const json& source, const json& pod, const PodPlace& place,
                const FetchVolume& fetch, std::vector<PodFile>& files) {
  for (const char* kind : {"secret", "configMap"}) {
    if (!source.contains(kind)) continue;
    const json& named = source[kind];
    const json what = {{"kind", kind == std::string_view("secret") ? "Secret" : "ConfigMap"},
                       {"name", TextAt(named, "/name", TextAt(named, "/secretName"))}};
    const json& items = ListAt(named, "/items");
    MUSTER_ASSIGN(const json content, fetch(what));
    for (const auto& [key, value] : content.items()) {
      std::string path = items.empty() ? key : "";
      for (const json& item : items) {
        if (item.value("key", "") == key) path = item.value("path", key);
      }
      if (!path.empty()) files.push_back({path, value.get<std::string>()});
    }
  }
  if (source.contains("serviceAccountToken")) {
    const json& token = source["serviceAccountToken"];
    MUSTER_ASSIGN(const json answer,
                  fetch({{"kind", "Token"}, {"audience", token.value("audience", "")}}));
    files.push_back({token.value("path", "token"), answer.value("token", "")});
  }
  for (const json& item : ListAt(source, "/downwardAPI/items")) {
    files.push_back(
        {item.value("path", ""), DownwardField(pod, place, TextAt(item, "/fieldRef/fieldPath"))});
  }
  for (const json& part : ListAt(source, "/projected/sources")) {
    MUSTER_TRY(AddFiles(part, pod, place, fetch, files));
  }
  return {};
}

}  // namespace

Result<PodPlan> MakePodPlan(const json& pod, const PodPlace& place, const FetchVolume& fetch) {
  const json& containers = ListAt(pod, "/spec/containers");
  if (containers.size() != 1 || !ListAt(pod, "/spec/initContainers").empty()) {
    return Err(Code::kInvalidArgument, "a process node runs pods with one container");
  }
  const json& container = containers[0];
  PodPlan plan{.container = container.value("name", "")};
  Variables environment = ReadVariables(container, pod, place);
  for (const char* part : {"/command", "/args"}) {
    for (const json& word : ListAt(container, part)) {
      plan.argv.push_back(Expand(word.get<std::string>(), environment));
    }
  }
  if (plan.argv.empty()) {
    return Err(Code::kInvalidArgument, "a process node has no images, so a pod needs a command");
  }
  environment.insert({{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                      {"HOME", "/"},
                      {"HOSTNAME", TextAt(pod, "/metadata/name")}});
  AddGpus(container, place, environment);
  for (const auto& [name, value] : environment) plan.environment.push_back(name + "=" + value);
  plan.working_dir = container.value("workingDir", "/");
  const auto security = [&](const char* key, int fallback) {
    for (const json& level : {container, pod["spec"]}) {
      if (level.contains("securityContext") && level["securityContext"].contains(key)) {
        return level["securityContext"][key].get<int>();
      }
    }
    return fallback;
  };
  plan.user = security("runAsUser", 0);
  plan.group = security("runAsGroup", plan.user);
  plan.read_only_root =
      container.value("securityContext", json::object()).value("readOnlyRootFilesystem", false);
  for (const json& mount : ListAt(container, "/volumeMounts")) {
    PodMount made{.path = mount.value("mountPath", ""),
                  .read_only = mount.value("readOnly", false)};
    for (const json& volume : ListAt(pod, "/spec/volumes")) {
      if (volume.value("name", "") != mount.value("name", "")) continue;
      MUSTER_TRY(AddFiles(volume, pod, place, fetch, made.files));
      made.read_only |= !volume.contains("emptyDir");
    }
    plan.mounts.push_back(std::move(made));
  }
  return plan;
}

std::string PodPlan::ToJson() const {
  json object{{"container", container},
              {"argv", argv},
              {"environment", environment},
              {"working_dir", working_dir},
              {"user", user},
              {"group", group},
              {"read_only_root", read_only_root},
              {"mounts", json::array()},
              {"launcher", launcher}};
  for (const PodMount& mount : mounts) {
    json files = json::array();
    for (const PodFile& file : mount.files)
      files.push_back({{"name", file.name}, {"content", file.content}});
    object["mounts"].push_back(
        {{"path", mount.path}, {"read_only", mount.read_only}, {"files", files}});
  }
  return object.dump();
}

PodPlan PodPlan::FromJson(const std::string& text) {
  const json object = json::parse(text);
  PodPlan plan{.container = object["container"],
               .argv = object["argv"],
               .environment = object["environment"],
               .working_dir = object["working_dir"],
               .user = object["user"],
               .group = object["group"],
               .read_only_root = object["read_only_root"],
               .launcher = object["launcher"]};
  for (const json& mount : object["mounts"]) {
    PodMount made{.path = mount["path"], .read_only = mount["read_only"]};
    for (const json& file : mount["files"]) made.files.push_back({file["name"], file["content"]});
    plan.mounts.push_back(std::move(made));
  }
  return plan;
}

}  // namespace muster::cluster
