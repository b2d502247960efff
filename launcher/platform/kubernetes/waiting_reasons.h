// WaitingReasons: why something of a run does not run yet, in one sentence, from what the API server shows of it. Pure.
//
// Sentences do not change while nothing has: no times, no counters, no names of pods that were never made.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace muster::kubernetes {

// What there is of a run's coordinator.
struct RunScene {
  nlohmann::json job;                  // its Job; null: there is none
  std::vector<nlohmann::json> pods;    // of that Job, ended ones included
  std::vector<nlohmann::json> events;  // Events that concern these, in any order
};

// Why the coordinator does not answer: "the coordinator waits: pod x has no node yet: 0/3 nodes are available: ...".
std::string WhyCoordinatorWaits(const RunScene& scene);

// Why the Job will make no coordinator any more; nothing as long as it tries.
std::optional<std::string> CoordinatorFailure(const RunScene& scene);

// Why a pod does not run: no node (and what the autoscaler does about it), image, volumes, its end. Empty if it runs.
std::string WhyPodWaits(const nlohmann::json& pod, const std::vector<nlohmann::json>& events);

}  // namespace muster::kubernetes
