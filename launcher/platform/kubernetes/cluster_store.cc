#include "launcher/platform/kubernetes/cluster_store.h"

#include "launcher/rendezvous/state_json.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

constexpr std::chrono::minutes kGenerationWait{10};
constexpr std::chrono::seconds kOtherWait{2};

}  // namespace

Result<std::unique_ptr<ClusterStore>> ClusterStore::Open(RunRecord& record) {
  std::unique_ptr<ClusterStore> store(new ClusterStore(record));
  const auto found = record.data().find(std::string(kStateKey));
  if (found == record.data().end()) return store;
  try {
    store->state_ = StateFromJson(json::parse(found->second));
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
  if (written.error().code != Code::kNotFound) return written;
  return Err(Code::kFailedPrecondition, "{}", written.error().message);
}

}  // namespace muster::kubernetes
