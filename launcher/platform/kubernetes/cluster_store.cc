#include "launcher/platform/kubernetes/cluster_store.h"

#include "launcher/platform/kubernetes/objects.h"
#include "launcher/rendezvous/state_json.h"
#include "runtime/base/backoff.h"
#include "runtime/base/log.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

constexpr std::chrono::minutes kGenerationWait{10};
constexpr std::chrono::seconds kOtherWait{2};
constexpr BackoffPolicy kAgain{std::chrono::milliseconds(200), std::chrono::seconds(5)};

}  // namespace

Result<std::unique_ptr<ClusterStore>> ClusterStore::Open(RunRecord& record) {
  std::unique_ptr<ClusterStore> store(new ClusterStore(record));
  const std::string* const found = record.Find(kStateKey);
  if (found == nullptr) return store;
  try {
    store->state_ = StateFromJson(json::parse(*found));
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
  const Status written = Put(text, MonotonicNow() + wait);
  if (written) {
    state_ = state;
    return {};
  }
  if (stop_.stop_requested()) {  // the next coordinator decides anew
    return Err(Code::kFailedPrecondition, "the coordinator is going away");
  }
  if (written.error().code != Code::kNotFound) return written;
  return Err(Code::kFailedPrecondition, "{}", written.error().message);
}

// What the server refuses now (a right that is taken away, an admission webhook that is down) it may take later.
Status ClusterStore::Put(const std::string& text, TimePoint deadline) {
  const std::stop_token stop = stop_.get_token();
  for (int attempt = 0;; ++attempt) {
    const Status written = record_.Put({{std::string(kStateKey), text}}, deadline, stop);
    if (written || stop.stop_requested()) return written;
    const Code code = written.error().code;
    const bool for_good = code == Code::kFailedPrecondition || code == Code::kNotFound ||
                          code == Code::kInvalidArgument;
    const Duration pause = kAgain.Delay(attempt);
    if (for_good || MonotonicNow() + pause >= deadline) return written;
    log::warn("state=not-written reason=\"{}\"", written.error().message);
    if (!PauseFor(pause, stop)) return written;
  }
}

}  // namespace muster::kubernetes
