#include "tests/cluster/node/statuses.h"

#include <sys/utsname.h>

#include <ctime>
#include <string_view>

namespace muster::cluster {

using nlohmann::json;

namespace {

json Condition(const std::string& type, bool value) {
  return {{"type", type}, {"status", value ? "True" : "False"}, {"lastTransitionTime", TimeText()}};
}

json NodeConditions() {
  json conditions = json::array();
  for (const char* type : {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}) {
    json condition = Condition(type, std::string_view(type) == "Ready");
    condition["lastHeartbeatTime"] = TimeText();
    condition["reason"] = "ProcessNode";
    conditions.push_back(std::move(condition));
  }
  return conditions;
}

}  // namespace

std::string TimeText() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string MicroTimeText() {
  std::string text = TimeText();
  return text.insert(text.size() - 1, ".000000");
}

json NodeStatus(const std::string& name, const std::string& address, int port) {
  utsname system{};
  ::uname(&system);
  return {
      {"addresses",
       {{{"type", "InternalIP"}, {"address", address}}, {{"type", "Hostname"}, {"address", name}}}},
      {"daemonEndpoints", {{"kubeletEndpoint", {{"Port", port}}}}},
      {"conditions", NodeConditions()},
      {"nodeInfo",
       {{"machineID", ""},
        {"systemUUID", ""},
        {"bootID", ""},
        {"kernelVersion", system.release},
        {"osImage", "process node"},
        {"containerRuntimeVersion", "process://1"},
        {"kubeletVersion", "v1.36.2"},
        {"kubeProxyVersion", ""},
        {"operatingSystem", "linux"},
        {"architecture", "amd64"}}}};
}

json PodStatus(const json& pod, const PodFacts& facts, const std::string& phase,
               const json& state) {
  const bool running = phase == "Running";
  const json& container = pod["spec"]["containers"][0];
  json status{{"phase", phase},
              {"startTime", facts.start_time.empty() ? TimeText() : facts.start_time},
              {"conditions",
               {Condition("Initialized", true), Condition("Ready", running),
                Condition("ContainersReady", running)}},
              {"containerStatuses",
               {{{"name", container["name"]},
                 {"image", container.value("image", "")},
                 {"imageID", ""},
                 {"restartCount", 0},
                 {"ready", running},
                 {"started", running},
                 {"state", state}}}}};
  if (!facts.ip.empty()) {
    status.update({{"podIP", facts.ip},
                   {"podIPs", {{{"ip", facts.ip}}}},
                   {"hostIP", facts.node_address},
                   {"hostIPs", {{{"ip", facts.node_address}}}}});
  }
  return status;
}

}  // namespace muster::cluster
