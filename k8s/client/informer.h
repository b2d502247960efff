// Informer: tells all changes of a set of objects, starting with those that exist; a shell around WatchCore.
//
// Threading: one thread of its own lists, watches, parses and calls the handler; the handler should be quick and must not destroy
// the informer. While it is busy, the server waits. Ownership: the client, and what the handler captures, outlive the informer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "k8s/client/api_client.h"
#include "k8s/client/json_splitter.h"
#include "k8s/client/watch_core.h"

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
  bool synced = false;  // with these changes, all that exists has been told, as of one moment
  std::string note;     // what goes wrong, or why it is listed again; for logs and events
};

class Informer {
 public:
  using Handler = std::function<void(const WatchUpdate&)>;

  // Starts at once. Never gives up: whatever fails is tried again, with backoff, and noted.
  Informer(ApiClient* client, InformerOptions options, Handler handler);
  ~Informer();  // ends what is under way; returns within milliseconds, or when the handler does
  Informer(const Informer&) = delete;
  Informer& operator=(const Informer&) = delete;

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

  ApiClient* const client_;
  const InformerOptions options_;
  const Handler handler_;
  // The thread's own.
  WatchCore core_;
  std::unique_ptr<HttpStream> stream_;
  std::unique_ptr<JsonSplitter> splitter_;

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace muster::k8s
