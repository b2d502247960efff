// PodView from the JSON of a pod, as the API server has it. Pure.
//
// Threading: free functions.
#pragma once

#include <nlohmann/json.hpp>

#include "launcher/platform/kubernetes/fleet_events.h"

namespace muster::kubernetes {

// What FleetCore wants to know of `pod`, an object of kind Pod. What is missing, or of another type than it should be, reads as empty.
//
// - The phase is that of the pod, but a pod whose worker has ended has ended too, even where a sidecar of somebody's goes on. The
//   phase "Unknown", of old clusters, counts as running: its node is silent, and nobody knows more.
// - A process that a signal has killed has exit code 128 + the signal; `signal` is set then, beside the code.
// - An eviction leaves no container that could tell; the reason of the pod is told instead.
fleet::PodView ViewOfPod(const nlohmann::json& pod);

}  // namespace muster::kubernetes
