// StateJson: the coordinator's state as JSON, for whatever keeps it.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>

#include "launcher/rendezvous/coordinator_state.h"

namespace muster {

nlohmann::json ToJson(const CoordinatorState& state);

// Throws nlohmann::json::exception where a field is missing or has another type.
CoordinatorState StateFromJson(const nlohmann::json& object);

}  // namespace muster
