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

  // A generation must be durable before anybody hears of it: such a state is waited for as long as an API server may be away, all
  // others are tried for a moment only, because the caller comes again. Errors: those of RunRecord::Put; a run that has been
  // deleted is kFailedPrecondition too.
  Status Append(const CoordinatorState& state) override;

  // Ends a wait that is under way, and every later one, with kFailedPrecondition: we act no more.
  void Stop() { stop_.request_stop(); }

 private:
  explicit ClusterStore(RunRecord& record) : record_(record) {}
  Status Put(const std::string& text, TimePoint deadline);

  RunRecord& record_;
  std::optional<CoordinatorState> state_;
  std::stop_source stop_;
};

}  // namespace muster::kubernetes
