// What a process node tells the API server about itself and its pods, as objects.
//
// Threading: plain functions; NodeStatus asks the system for its release.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace muster::cluster {

// RFC 3339, in seconds and with microseconds.
std::string TimeText();
std::string MicroTimeText();

// A node that is ready, at `address`, where a kubelet's port is open.
nlohmann::json NodeStatus(const std::string& name, const std::string& address, int port);

struct PodFacts {
  std::string ip;  // empty: it has none
  std::string node_address;
  std::string start_time;
};

// `state` is that of the only container: {"running": ...} or {"terminated": ...}.
nlohmann::json PodStatus(const nlohmann::json& pod, const PodFacts& facts, const std::string& phase,
                         const nlohmann::json& state);

}  // namespace muster::cluster
