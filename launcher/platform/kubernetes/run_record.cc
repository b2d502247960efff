#include "launcher/platform/kubernetes/run_record.h"

#include <charconv>

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/backoff.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using k8s::At;
using k8s::StringAt;
using nlohmann::json;

using Texts = std::map<std::string, std::string>;

constexpr BackoffPolicy kConflictPause{.first = std::chrono::milliseconds(10),
                                       .cap = std::chrono::seconds(1)};

Texts DataOf(const json& object) {
  Texts data;
  for (const auto& [key, value] : At(object, {"data"}).items()) {
    if (value.is_string()) data[key] = value.get<std::string>();
  }
  return data;
}

std::string EpochText(const json& object) {
  return StringAt(object, {"data", std::string(kEpochKey).c_str()});
}

// A run that nobody has taken yet is at epoch 0.
Result<uint64_t> EpochOf(const json& object, const std::string& name) {
  const std::string text = EpochText(object);
  if (text.empty()) return 0;
  uint64_t epoch = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), epoch);
  if (error == std::errc{} && end == text.data() + text.size()) return epoch;
  return WithHint(Err(Code::kDataLoss, "ConfigMap {}: its epoch is \"{}\", no number", name, text),
                  "somebody has edited it; delete the run, or put a number there");
}

bool IsGone(const json& object) { return !At(object, {"metadata", "deletionTimestamp"}).is_null(); }

// A 404 of something between us and the API server says nothing about the run.
bool SaysNotFound(const k8s::ApiFailure& failure) {
  return failure.status == 404 && failure.reason == "NotFound";
}

Error DeletedError(const k8s::ObjectRef& place) {
  return {Code::kNotFound,
          fmt::format("the run has been deleted: there is no ConfigMap {} of it in namespace {}",
                      place.name, place.namespace_name),
          ""};
}

// A merge patch that is refused if the object is not at `version` any more.
json PatchOf(const Texts& changes, const std::string& version) {
  return {{"metadata", {{"resourceVersion", version}}}, {"data", changes}};
}

Result<json> Read(k8s::ApiClient& client, const k8s::ObjectRef& place, k8s::Call call) {
  k8s::ApiFailure failure;
  call.failure = &failure;
  Result<json> object = client.Get(place, call);
  if (object && IsGone(*object)) return tl::unexpected<Error>(DeletedError(place));
  if (object || object.error().code != Code::kNotFound) return object;
  if (SaysNotFound(failure)) return tl::unexpected<Error>(DeletedError(place));
  return Err(Code::kUnavailable, "{}", object.error().message);
}

// Errors: kDeadlineExceeded (no time is left for another attempt), kCancelled.
Status PauseAfterConflict(int attempt, const k8s::ObjectRef& place, const k8s::Call& call) {
  const Duration pause = kConflictPause.Delay(attempt);
  if (MonotonicNow() + pause >= call.deadline) {
    return Err(Code::kDeadlineExceeded,
               "ConfigMap {}: others have written it between each read and write of ours",
               place.name);
  }
  if (PauseFor(pause, call.stop)) return {};
  return Err(Code::kCancelled, "ConfigMap {}: given up", place.name);
}

}  // namespace

Result<std::unique_ptr<RunRecord>> RunRecord::TakeOver(k8s::ApiClient& client,
                                                       const std::string& namespace_name,
                                                       const std::string& name,
                                                       TimePoint deadline) {
  const k8s::ObjectRef place{k8s::kConfigMaps, namespace_name, name};
  const k8s::Call call{.deadline = deadline};
  for (int attempt = 0;; ++attempt) {
    MUSTER_ASSIGN(const json object, Read(client, place, call));
    MUSTER_ASSIGN(const uint64_t before, EpochOf(object, name));
    const uint64_t epoch = before + 1;
    const Texts change{{std::string(kEpochKey), std::to_string(epoch)}};
    const Result<json> taken =
        client.Patch(place, k8s::PatchKind::kMerge,
                     PatchOf(change, StringAt(object, {"metadata", "resourceVersion"})), {}, call);
    if (taken) return std::unique_ptr<RunRecord>(new RunRecord(client, place, *taken, epoch));
    // Also where the answer to an attempt of ours got lost. Its epoch is left alone: it might be another's.
    if (taken.error().code != Code::kAborted) return tl::unexpected<Error>(taken.error());
    MUSTER_TRY(PauseAfterConflict(attempt, place, call));
  }
}

RunRecord::RunRecord(k8s::ApiClient& client, k8s::ObjectRef place, const json& object,
                     uint64_t epoch)
    : client_(client),
      place_(std::move(place)),
      data_(DataOf(object)),
      uid_(StringAt(object, {"metadata", "uid"})),
      epoch_(epoch) {
  (void)Learn(object);
}

const std::string* RunRecord::Find(std::string_view key) const {
  const auto found = data_.find(std::string(key));
  return found == data_.end() ? nullptr : &found->second;
}

Status RunRecord::Put(const Texts& changes, TimePoint deadline, const std::stop_token& stop) {
  MUSTER_TRY(Begin(deadline, stop));
  Status written = CheckSize(changes);
  if (written) written = Write(changes, {.deadline = deadline, .stop = stop});
  End();
  return written;
}

Status RunRecord::Ours() const {
  MutexLock lock(mutex_);
  if (lost_) return tl::unexpected<Error>(*lost_);
  return {};
}

Status RunRecord::Begin(TimePoint deadline, const std::stop_token& stop) {
  MutexLock lock(mutex_);
  const bool free = free_.wait_until(
      mutex_, stop, deadline, [this]() REQUIRES(mutex_) { return !writing_ || lost_.has_value(); });
  if (lost_) return tl::unexpected<Error>(*lost_);
  if (!free && stop.stop_requested()) {
    return Err(Code::kCancelled, "ConfigMap {}: given up", place_.name);
  }
  if (!free) {
    return Err(Code::kDeadlineExceeded, "ConfigMap {}: an earlier write is still under way",
               place_.name);
  }
  writing_ = true;
  return {};
}

void RunRecord::End() {
  MutexLock lock(mutex_);
  writing_ = false;
  free_.notify_all();
}

Status RunRecord::CheckSize(const Texts& changes) const {
  size_t total = 0;
  for (const auto& [key, size] : sizes_) total += changes.contains(key) ? 0 : size;
  const size_t others = total;
  std::string what;
  for (const auto& [key, value] : changes) {
    total += value.size();
    what += fmt::format("{}{} ({} bytes)", what.empty() ? "" : ", ", key, value.size());
  }
  if (total <= kMaxRecordBytes) return {};
  return WithHint(Err(Code::kInvalidArgument,
                      "ConfigMap {}: {} do not fit: it holds {} bytes in all, and {} are taken",
                      place_.name, what, kMaxRecordBytes, others),
                  "write less");
}

Status RunRecord::Write(const Texts& changes, const k8s::Call& call) {
  k8s::ApiFailure failure;
  k8s::Call observed = call;
  observed.failure = &failure;
  for (int attempt = 0;; ++attempt) {
    const Result<json> object =
        client_.Patch(place_, k8s::PatchKind::kMerge, PatchOf(changes, version_), {}, observed);
    if (object) return Learn(*object);
    if (object.error().code == Code::kNotFound) {
      if (SaysNotFound(failure)) return Lose(DeletedError(place_));
      return Err(Code::kUnavailable, "{}", object.error().message);
    }
    if (object.error().code != Code::kAborted) return tl::unexpected<Error>(object.error());
    MUSTER_TRY(ReadAgain(call));
    MUSTER_TRY(PauseAfterConflict(attempt, place_, call));
  }
}

Status RunRecord::ReadAgain(const k8s::Call& call) {
  const Result<json> object = Read(client_, place_, call);
  if (object) return Learn(*object);
  if (object.error().code == Code::kNotFound) return Lose(object.error());
  return tl::unexpected<Error>(object.error());
}

Status RunRecord::Learn(const json& object) {
  if (StringAt(object, {"metadata", "uid"}) != uid_ || IsGone(object)) {
    return Lose(DeletedError(place_));
  }
  const std::string epoch = EpochText(object);
  if (epoch != std::to_string(epoch_)) {
    return Lose({Code::kFailedPrecondition,
                 fmt::format("fenced: run {} is at epoch {}, and ours is {}: another coordinator "
                             "has taken it over",
                             place_.name, epoch.empty() ? "none" : epoch, epoch_),
                 ""});
  }
  version_ = StringAt(object, {"metadata", "resourceVersion"});
  sizes_.clear();
  for (const auto& [key, value] : DataOf(object)) sizes_[key] = value.size();
  return {};
}

Status RunRecord::Lose(Error why) {
  MutexLock lock(mutex_);
  if (!lost_) lost_ = std::move(why);
  free_.notify_all();
  return tl::unexpected<Error>(*lost_);
}

}  // namespace muster::kubernetes
