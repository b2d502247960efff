#include "launcher/platform/kubernetes/cluster_store.h"

#include "launcher/job/fields.h"
#include "launcher/platform/kubernetes/objects.h"
#include "launcher/rendezvous/state_json.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

// Of one attempt.
constexpr std::chrono::seconds kGenerationWait{10};
constexpr std::chrono::seconds kOtherWait{2};

}  // namespace

Result<std::unique_ptr<ClusterStore>> ClusterStore::Open(RunRecord& record) {
  std::unique_ptr<ClusterStore> store(new ClusterStore(record));
  const std::string* const found = record.Find(kStateKey);
  if (found == nullptr) return store;
  try {
    store->state_ = StateFromJson(ParseIntegerJson(*found));
    return store;
  } catch (const json::exception& error) {
    return WithHint(Err(Code::kDataLoss, "the key {} of the run's ConfigMap cannot be read: {}",
                        kStateKey, error.what()),
                    "somebody has edited it, or another version of Muster wrote it");
  }
}

Status ClusterStore::Append(const CoordinatorState& state) {
  const bool generation = !state_ || state.last_generation > state_->last_generation;
  const Duration wait = generation ? Duration(kGenerationWait) : Duration(kOtherWait);
  const std::string text = ToJson(state).dump(-1, ' ', false, json::error_handler_t::replace);
  const Status written =
      record_.Put({{std::string(kStateKey), text}}, MonotonicNow() + wait, stop_.get_token());
  if (written) {
    state_ = state;
    return {};
  }
  if (stop_.stop_requested()) {  // the next coordinator decides anew
    return Err(Code::kFailedPrecondition, "the coordinator is going away");
  }
  const Error& error = written.error();
  switch (error.code) {
    case Code::kFailedPrecondition:
      return written;
    case Code::kNotFound:
      return Err(Code::kFailedPrecondition, "{}", error.message);
    case Code::kInvalidArgument:
      return WithHint(Err(Code::kInvalidArgument, "{}", error.message),
                      "so many workers need more than a ConfigMap holds: start with fewer");
    default:
      // Also what the server refuses now (a right that is taken away, an admission webhook that is down) it may take later.
      return WithHint(
          Err(Code::kUnavailable, "the API server does not take the state of the run: {}",
              error.message),
          "look at the API server, and at the coordinator's right to patch its ConfigMap");
  }
}

}  // namespace muster::kubernetes
