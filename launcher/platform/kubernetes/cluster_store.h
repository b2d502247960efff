// ClusterStore: the coordinator's state in the record of its run (StateStore over RunRecord, key `state`).
//
// Threading: one thread appends; Stop is safe from any. Ownership: the record outlives it.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>

#include "launcher/platform/kubernetes/run_record.h"
#include "launcher/rendezvous/state_store.h"

namespace muster::kubernetes {

class ClusterStore final : public StateStore {
 public:
  // Errors: kDataLoss (what a former coordinator has left cannot be read).
  static Result<std::unique_ptr<ClusterStore>> Open(RunRecord& record);

  const std::optional<CoordinatorState>& state() const override { return state_; }

  // Tries for some seconds, for one with a new generation longer than for others; the caller comes again. Errors:
  // kFailedPrecondition (the run is another coordinator's by now, or has been deleted), kInvalidArgument (too large), and
  // kUnavailable for whatever else the API server says, or does not say.
  Status Append(const CoordinatorState& state) override;

  // Ends a wait that is under way, and every later one, with kFailedPrecondition: we act no more.
  void Stop() { stop_.request_stop(); }

 private:
  explicit ClusterStore(RunRecord& record) : record_(record) {}

  RunRecord& record_;
  std::optional<CoordinatorState> state_;
  std::stop_source stop_;
};

}  // namespace muster::kubernetes
