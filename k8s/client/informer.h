// Informer: tells all changes of a set of objects, starting with those that exist; a shell around WatchCore.
//
// Threading: one thread of its own lists, watches, parses and calls the handler; the handler should be quick and must not destroy
// the informer. ListAgain is safe from any thread. While it is busy, the server waits. Ownership: the client, and what the handler captures, outlive the informer.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "k8s/client/api_client.h"
#include "k8s/client/json_splitter.h"
#include "k8s/client/watch_core.h"
#include "runtime/base/thread_annotations.h"

namespace muster::k8s {

struct InformerOptions {
  Resource resource;
  std::string namespace_name;
  std::string label_selector;
  std::string field_selector;
  WatchTimes times;
  Duration list_timeout = std::chrono::minutes(1);
  Duration open_timeout = std::chrono::seconds(30);  // until a watch has begun
  Duration watch_timeout = std::chrono::minutes(5);  // after which the server ends it
  int page_size = 500;
};

struct WatchUpdate {
  std::vector<Change> changes;
  // With these changes, all that exists has been told, as of one moment. Then they come from comparing a list with what was known, and
  // a deletion among them is as certain as the list is; all others are events of the watch.
  bool synced = false;
  std::vector<std::shared_ptr<const nlohmann::json>>
      listed;             // with `synced`: all that is in the list
  TimePoint asked{};      // with `synced`: the list is not older
  bool watching = false;  // a watch has been opened
  std::string note;       // what goes wrong, or why it is listed again; for logs and events
};

class Informer {
 public:
  using Handler = std::function<void(const WatchUpdate&)>;

  // Starts at once. Never gives up: whatever fails is tried again, with backoff, and noted.
  Informer(ApiClient* client, InformerOptions options, Handler handler);
  ~Informer();  // ends what is under way; returns within milliseconds, or when the handler does
  Informer(const Informer&) = delete;
  Informer& operator=(const Informer&) = delete;

  // Takes the list again, at once unless one is under way or a pause after a failed one lasts. Does not block; any thread may ask.
  void ListAgain() EXCLUDES(mutex_);

 private:
  void Run(std::stop_token stop);
  // Does what `output` says, and what the core says to what comes of it, until there is nothing to do at once.
  void Act(WatchOutput output, const std::stop_token& stop);
  void Tell(const WatchOutput& output) const;
  WatchOutput List(const std::stop_token& stop);
  // Nothing if it is open.
  std::optional<WatchOutput> OpenWatch(const std::string& resource_version,
                                       const std::stop_token& stop);
  // Waits until something happens, and acts: an event, the end of the watch, or the core's time.
  void Step(const std::stop_token& stop);
  void TakeEvents(const std::string& bytes, const std::stop_token& stop);
  std::stop_token Interrupt() EXCLUDES(mutex_);
  bool IsWanted() EXCLUDES(mutex_);
  bool TakeWish(const std::stop_token& stop) EXCLUDES(mutex_);

  ApiClient* const client_;
  const InformerOptions options_;
  const Handler handler_;
  // The thread's own.
  WatchCore core_;
  std::unique_ptr<HttpStream> stream_;
  std::unique_ptr<JsonSplitter> splitter_;

  Mutex mutex_;
  bool wanted_ GUARDED_BY(mutex_) = false;
  std::stop_source interrupt_ GUARDED_BY(mutex_);  // of waits: a list is wanted, or this ends

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace muster::k8s
