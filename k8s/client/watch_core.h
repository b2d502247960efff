// WatchCore: decides how to keep up with a set of objects: list them, watch from there, and what to do when that goes wrong. Pure.
//
// The protocol is that of the Kubernetes documentation, reference/using-api/api-concepts, "efficient detection of changes": a list
// has a resource version, a watch gives the changes since one, bookmarks move it on, and 410 Gone, as a status or as an event, says
// that it is too old. Then, every `relist_period`, and often where no watch can be had, the list is taken again and compared with what is known: a watch may fall
// silent or lose something without saying so. Nothing but a complete list, or the event itself, makes an object deleted. A list that
// is older than what is known tells nothing: versions of one resource can be compared as numbers (KEP-5504).
//
// Threading: a plain value; one thread at a time. Invariant: `changes` tells a consistent story: an object is added, modified any
// number of times, deleted; one that has the name of another but not its uid comes after the deletion of that.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/backoff.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::k8s {

struct WatchTimes {
  Duration idle_timeout = std::chrono::seconds(
      90);  // a watch that is silent for so long is reopened; bookmarks come each minute
  Duration relist_period = std::chrono::minutes(10);
  Duration blind_period =
      std::chrono::seconds(15);  // while no watch can be had, a list is not older when one is tried
  Duration stale_period = std::chrono::minutes(
      5);  // a list that is older than what is known is not believed for so long; then history itself must have gone back
  Duration short_watch =
      std::chrono::seconds(1);  // one that ends sooner without an event counts as a failure
  BackoffPolicy backoff{.first = std::chrono::milliseconds(200), .cap = std::chrono::seconds(30)};
};

// What has happened.
struct ListDone {
  std::vector<nlohmann::json> items;
  std::string resource_version;
};
struct ListFailed {
  Error error;
};
struct WatchEvent {
  nlohmann::json event;  // {"type": ..., "object": ...}
};
struct WatchEnded {
  std::optional<Error> error;  // none: the server's time limit
};
struct Tick {};
// Somebody wants to know what there is: the list is to be taken now. Nothing happens while one is, or where a pause after a failed one
// lasts.
struct ListWanted {};

enum class ChangeKind { kAdded, kModified, kDeleted };

struct Change {
  ChangeKind kind = ChangeKind::kAdded;
  std::shared_ptr<const nlohmann::json> object;  // kDeleted: the last that is known of it
};

// What to do now.
struct WatchOutput {
  bool close_watch = false;  // first of all
  bool list = false;         // then tell how it went, with ListDone or ListFailed
  std::optional<std::string>
      open_watch;  // from this resource version; then tell its events, and WatchEnded if it cannot be opened
  std::vector<Change> changes;
  bool synced = false;  // `changes` completes a list: all that exists has been told
  std::vector<std::shared_ptr<const nlohmann::json>>
      listed;         // with `synced`: all that is in the list
  TimePoint asked{};  // with `synced`: when it was decided upon; the list is not older
  std::string note;   // why, if something is out of the ordinary
};

class WatchCore {
 public:
  WatchCore(WatchTimes times, uint64_t seed) : times_(times), random_(seed) {}

  // `input` is one of ListDone, ListFailed, ListWanted, WatchEvent, WatchEnded and Tick, the first one a Tick. A watch that is open stays so
  // until `close_watch` or WatchEnded.
  template <typename Input>
  WatchOutput Handle(const Input& input, TimePoint now) {
    WatchOutput output;
    On(input, now, &output);
    UpdateWake();
    return output;
  }

  // When to come with a Tick, if nothing else has happened before.
  TimePoint wake() const { return wake_; }

  size_t size() const { return known_.size(); }

 private:
  enum class Phase { kListDue, kListing, kWatchDue, kWatching };
  using Object = std::shared_ptr<const nlohmann::json>;

  void On(const ListDone& done, TimePoint now, WatchOutput* output);
  void On(const ListFailed& failed, TimePoint now, WatchOutput* output);
  void On(const WatchEvent& event, TimePoint now, WatchOutput* output);
  void On(const WatchEnded& ended, TimePoint now, WatchOutput* output);
  void On(const Tick& tick, TimePoint now, WatchOutput* output);
  void On(const ListWanted& wanted, TimePoint now, WatchOutput* output);

  void BeginList(TimePoint now, WatchOutput* output);
  bool IsStale(const std::string& version, TimePoint now);
  void OpenWatch(TimePoint now, WatchOutput* output);
  // Lists, or opens the watch, after a wait that grows with each failure.
  void Later(Phase what, TimePoint now);
  void Put(const std::string& key, Object object, WatchOutput* output);
  void Remove(const std::string& key, Object last, WatchOutput* output);
  void UpdateWake();

  WatchTimes times_;
  uint64_t random_;
  Phase phase_ = Phase::kListDue;
  TimePoint due_ = TimePoint::min();  // kListDue, kWatchDue
  TimePoint relist_at_ = TimePoint::max();
  TimePoint list_asked_;          // kListing
  TimePoint listed_at_;           // the last
  bool paused_ = false;           // kListing: the pause before the next watch is over
  TimePoint opened_at_;           // kWatching
  TimePoint heard_at_;            // kWatching
  bool heard_something_ = false;  // from this watch
  int failures_ = 0;              // since a watch was last of use
  std::string resource_version_;
  std::optional<TimePoint> stale_since_;  // lists are
  TimePoint wake_ = TimePoint::min();
  std::map<std::string, Object> known_;  // by "namespace/name"
};

}  // namespace muster::k8s
