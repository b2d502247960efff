// FleetJson: what a coordinator remembers of its fleet, and what it shows of it, as JSON.
//
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/platform/kubernetes/fleet_actions.h"
#include "launcher/platform/kubernetes/fleet_status.h"
#include "runtime/base/status.h"

namespace muster::fleet {

// {"serials": {"POOL": N, ...}, "started": true, "gang_failures": N}
std::string ToJson(const FleetSaved& saved);

// Errors: kDataLoss (no JSON; a key is missing, unknown, or its value is of another type or out of range), naming it. What cannot be
// read must not be taken for nothing: names that have been given out would be given out again.
Result<FleetSaved> FleetSavedFromJson(std::string_view text);

// {"phase", "gang_failures", "pools": [{"name", "min", "max", "running", "waiting", "leaving", "members", "note"}],
//  "waiting": [{"pod", "why"}], "message", "faults": [sentence]}
std::string ToJson(const FleetStatus& status, const std::vector<std::string>& faults);

}  // namespace muster::fleet
