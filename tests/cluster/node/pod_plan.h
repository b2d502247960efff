// PodPlan: how a process node runs a pod, read from its object.
//
// A process node has no images: the machine's own files are what every image holds, and `launcher` as in the stock image. It honours what decides how a program behaves:
// command, environment, downward API, volumes, user, read-only root, grace period. Pods with more than one container are refused.
//
// Threading: plain values; MakePodPlan calls `fetch` in the caller's thread.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster::cluster {

struct PodFile {
  std::string name;  // in the mounted folder
  std::string content;
};

struct PodMount {
  std::string path;
  bool read_only = false;
  std::vector<PodFile> files;  // of a ConfigMap, a Secret or a projection; an emptyDir has none
};

struct PodPlan {
  std::string container;
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // "NAME=value"
  std::string working_dir = "/";
  int user = 0;
  int group = 0;
  bool read_only_root = false;
  std::string
      launcher;  // a program of the machine that the pod sees as /usr/local/bin/launcher; empty: none
  std::vector<PodMount> mounts;

  // One line of JSON, and back; the plan comes from this program, so errors abort.
  std::string ToJson() const;
  static PodPlan FromJson(const std::string& text);
};

// Where a pod runs.
struct PodPlace {
  std::string node;
  std::string ip;          // of the pod
  std::string api_server;  // HOST:PORT
  std::string
      gpu_driver;  // a library that pods with GPUs find as their driver: a stand-in (tests/cuda)
};

// What a volume needs from the API server: {"kind": "Secret" | "ConfigMap", "name"} gives its decoded keys as an object, {"kind":
// "Token", "audience"} a token of the pod's service account under "token".
using FetchVolume = std::function<Result<nlohmann::json>(const nlohmann::json& what)>;

// Errors: kInvalidArgument (something a process node cannot do), what `fetch` says.
Result<PodPlan> MakePodPlan(const nlohmann::json& pod, const PodPlace& place,
                            const FetchVolume& fetch);

}  // namespace muster::cluster
