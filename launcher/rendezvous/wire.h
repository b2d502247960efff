// What agents and the platform say and hear, to and from the wire (runtime/proto). That of workers: runtime/rpc/convert.h.
//
// Threading: pure functions.
#pragma once

#include "launcher/rendezvous/coordinator_actions.h"
#include "launcher/rendezvous/coordinator_events.h"
#include "runtime/base/status.h"
#include "runtime/proto/muster.pb.h"

namespace muster {

// INVALID_ARGUMENT, with the number, if a process cannot have ended like that.
Status CheckExit(int exit_code, int signal);

// INVALID_ARGUMENT, with the field and its value, if it is out of range.
Result<CoordinatorEvent> ToEvent(const v1::AgentReport& message);

v1::AgentOrder ToProto(const SendAgent& order);
v1::SlotsOrder ToProto(const SetSlots& slots);

}  // namespace muster
