// CoordinatorState: what must survive the coordinator. It is written to the journal before anybody acts on it.
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/protocol.h"

namespace muster {

struct CoordinatorState {
  uint64_t last_generation = 0;        // highest number ever given away
  std::optional<Generation> active;    // in use, or ordered with urgency
  std::optional<Generation> proposed;  // planned: prepared and voted for
  int min_workers = 1;
  int max_workers = 1;
  std::vector<std::string> slots;             // slots that should exist
  std::map<std::string, uint64_t> dismissed;  // by slot: the newest process that was told to go
  bool started = false;                       // a first generation has been formed
  bool stop_requested = false;
  std::string stop_reason;
  uint64_t generations = 0;  // memberships that trained
  uint64_t best_step = 0;    // highest committed step seen
  uint64_t total_steps = 0;  // the program's, once a worker has told
  int64_t micro_batches = 0;
  int64_t batch_size = 0;
};

// The newest process of each worker that the state knows: older ones are fenced.
std::map<std::string, uint64_t> NewestIncarnations(const std::optional<CoordinatorState>& state);

}  // namespace muster
