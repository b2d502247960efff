// StateJson: the coordinator's state as JSON, for whatever keeps it.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>

#include "launcher/rendezvous/coordinator_state.h"

namespace muster {

nlohmann::json ToJson(const CoordinatorState& state);

// Throws nlohmann::json::exception where a field is missing, has another type, or is out of the range in which a coordinator can go on:
// whoever may edit what keeps the state may write anything.
CoordinatorState StateFromJson(const nlohmann::json& object);

}  // namespace muster
