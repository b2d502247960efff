#include "k8s/client/watch_core.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "k8s/client/json_fields.h"

namespace muster::k8s {
namespace {

using nlohmann::json;

constexpr int64_t kGone = 410;

// "namespace/name"; empty if it has no name.
std::string KeyOf(const json& object) {
  const std::string name = StringAt(object, {"metadata", "name"});
  if (name.empty()) return "";
  return fmt::format("{}/{}", StringAt(object, {"metadata", "namespace"}), name);
}

std::optional<uint64_t> NumberOf(const std::string& version) {
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(version.data(), version.data() + version.size(), number);
  if (error != std::errc{} || end != version.data() + version.size()) return std::nullopt;
  return number;
}

std::string UidOf(const json& object) { return StringAt(object, {"metadata", "uid"}); }
std::string VersionOf(const json& object) {
  return StringAt(object, {"metadata", "resourceVersion"});
}

}  // namespace

void WatchCore::UpdateWake() {
  switch (phase_) {
    case Phase::kListing:
      wake_ = TimePoint::max();  // the list has a deadline of its own
      break;
    case Phase::kWatching:
      wake_ = std::min(heard_at_ + times_.idle_timeout, relist_at_);
      break;
    case Phase::kListDue:
    case Phase::kWatchDue:
      wake_ = due_;
      break;
  }
}

void WatchCore::Later(Phase what, TimePoint now) {
  const Duration delay = times_.backoff.Delay(failures_++);
  random_ = random_ * 6364136223846793005U + 1442695040888963407U;
  const double fraction = static_cast<double>(random_ >> 40U) / static_cast<double>(1U << 24U);
  phase_ = what;
  due_ = now + delay / 2 + std::chrono::duration_cast<Duration>(delay / 2 * fraction);
}

void WatchCore::OpenWatch(TimePoint now, WatchOutput* output) {
  phase_ = Phase::kWatching;
  opened_at_ = heard_at_ = now;
  heard_something_ = false;
  output->open_watch = resource_version_;
}

void WatchCore::On(const Tick&, TimePoint now, WatchOutput* output) {
  if (phase_ == Phase::kListing || now < wake_) return;
  const bool blind =
      phase_ == Phase::kWatchDue && failures_ > 1 && now >= listed_at_ + times_.blind_period;
  const bool relist = phase_ == Phase::kListDue || now >= relist_at_ || blind;
  if (phase_ == Phase::kWatching) {
    output->close_watch = true;
    if (!relist) output->note = "the watch is silent; it is opened again";
  }
  if (relist) {
    const bool paused = phase_ == Phase::kWatchDue;
    BeginList(now, output);
    paused_ = paused;
  } else {
    OpenWatch(now, output);
  }
}

void WatchCore::On(const ListWanted&, TimePoint now, WatchOutput* output) {
  if (phase_ != Phase::kWatching && phase_ != Phase::kWatchDue) return;
  output->close_watch = phase_ == Phase::kWatching;
  BeginList(now, output);
}

void WatchCore::BeginList(TimePoint now, WatchOutput* output) {
  phase_ = Phase::kListing;
  paused_ = false;
  list_asked_ = now;
  output->list = true;
}

void WatchCore::On(const ListFailed& failed, TimePoint now, WatchOutput* output) {
  output->note = "cannot list: " + failed.error.ToString();
  Later(Phase::kListDue, now);
}

bool WatchCore::IsStale(const std::string& version, TimePoint now) {
  const auto listed = NumberOf(version);
  const auto known = NumberOf(resource_version_);
  if (!listed || !known || *listed >= *known) {
    stale_since_.reset();
    return false;
  }
  if (!stale_since_) stale_since_ = now;
  return now - *stale_since_ < times_.stale_period;
}

void WatchCore::On(const ListDone& done, TimePoint now, WatchOutput* output) {
  if (IsStale(done.resource_version, now)) {
    output->note =
        fmt::format("cannot list: the list is older (version {}) than what is known ({})",
                    done.resource_version, resource_version_);
    Later(Phase::kListDue, now);
    return;
  }
  stale_since_.reset();
  std::set<std::string> listed;
  for (const json& item : done.items) {
    const std::string key = KeyOf(item);
    if (key.empty()) continue;
    listed.insert(key);
    output->listed.push_back(std::make_shared<const json>(item));
    Put(key, output->listed.back(), output);
  }
  std::vector<std::string> gone;
  for (const auto& [key, object] : known_) {
    if (listed.count(key) == 0) gone.push_back(key);
  }
  for (const std::string& key : gone) Remove(key, known_.at(key), output);
  output->synced = true;
  output->asked = list_asked_;
  resource_version_ = done.resource_version;
  listed_at_ = now;
  relist_at_ = now + times_.relist_period;
  // A list alone is no sign that all is well: if watches from it fail, neither is to be tried again at once.
  if (failures_ == 0 || paused_) {
    OpenWatch(now, output);
  } else {
    Later(Phase::kWatchDue, now);
  }
}

void WatchCore::On(const WatchEvent& event, TimePoint now, WatchOutput* output) {
  if (phase_ != Phase::kWatching) return;
  const std::string type = StringAt(event.event, {"type"});
  const json& object = At(event.event, {"object"});
  if (type == "ERROR") {
    const bool gone = IntegerAt(object, {"code"}, 0) == kGone;
    output->close_watch = true;
    On(WatchEnded{Error{gone ? Code::kOutOfRange : Code::kUnavailable,
                        StringAt(object, {"message"}), ""}},
       now, output);
    return;
  }
  const std::string key = KeyOf(object);
  const std::string version = VersionOf(object);
  const bool known_type = type == "ADDED" || type == "MODIFIED" || type == "DELETED";
  if (version.empty() || (type != "BOOKMARK" && (!known_type || key.empty()))) {
    // What it would have said is lost, so that only a list can help.
    output->close_watch = true;
    output->note = "the watch told something that is no event; listing again";
    Later(Phase::kListDue, now);
    return;
  }
  heard_at_ = now;
  heard_something_ = true;
  failures_ = 0;
  resource_version_ = version;
  if (type == "DELETED") {
    Remove(key, std::make_shared<const json>(object), output);
  } else if (type != "BOOKMARK") {
    Put(key, std::make_shared<const json>(object), output);
  }
}

void WatchCore::On(const WatchEnded& ended, TimePoint now, WatchOutput* output) {
  if (phase_ != Phase::kWatching) return;
  if (ended.error && ended.error->code == Code::kOutOfRange) {
    output->note = "the resource version is too old; listing again";
    Later(Phase::kListDue, now);
    return;
  }
  const bool useful = heard_something_ || now - opened_at_ >= times_.short_watch;
  if (!ended.error && useful) {
    OpenWatch(now, output);
    return;
  }
  output->note = ended.error ? "the watch failed: " + ended.error->ToString()
                             : "the server ended the watch at once";
  Later(now >= relist_at_ ? Phase::kListDue : Phase::kWatchDue, now);
}

void WatchCore::Put(const std::string& key, Object object, WatchOutput* output) {
  const auto found = known_.find(key);
  if (found != known_.end() && UidOf(*found->second) != UidOf(*object)) {
    Remove(key, found->second, output);
    Put(key, std::move(object), output);
    return;
  }
  if (found == known_.end()) {
    known_.emplace(key, object);
    output->changes.push_back({ChangeKind::kAdded, std::move(object)});
  } else if (VersionOf(*found->second) != VersionOf(*object)) {
    found->second = object;
    output->changes.push_back({ChangeKind::kModified, std::move(object)});
  }
}

void WatchCore::Remove(const std::string& key, Object last, WatchOutput* output) {
  if (known_.erase(key) > 0) output->changes.push_back({ChangeKind::kDeleted, std::move(last)});
}

}  // namespace muster::k8s
