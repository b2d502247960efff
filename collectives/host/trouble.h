// Trouble: why a communicator must end.
//
// Threading: a plain value.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster::host {

struct Trouble {
  Code code = Code::kAborted;
  std::string reason;
  std::optional<int> lost_peer;   // the rank that is at fault, if it is one
  std::vector<int> silent_peers;  // whose heartbeats this rank has waited for in vain
};

}  // namespace muster::host
