// HttpLoop: the thread that moves all transfers of one transport, by libcurl's multi interface.
//
// Threading: all methods may be called from any thread and do not block; they queue what the thread does. It waits in
// curl_multi_poll, from which they wake it. Ownership: holds a transfer from Add until it has finished or is cancelled.
#pragma once

#include <curl/curl.h>

#include <deque>
#include <map>
#include <memory>
#include <stop_token>
#include <thread>

#include "k8s/client/http_transfer.h"
#include "runtime/base/status.h"
#include "runtime/base/thread_annotations.h"

namespace muster::k8s {

class HttpLoop {
 public:
  // Errors: kInternal.
  static Result<std::unique_ptr<HttpLoop>> Create(int max_connections);
  ~HttpLoop();
  HttpLoop(const HttpLoop&) = delete;
  HttpLoop& operator=(const HttpLoop&) = delete;

  // Ends the thread, and with kCancelled what is under way or comes later. Called once, by the owner.
  void Close() EXCLUDES(mutex_);

  void Add(std::shared_ptr<HttpTransfer> transfer) EXCLUDES(mutex_);
  // Gives it up. Nothing happens if it has finished.
  void Cancel(std::shared_ptr<HttpTransfer> transfer) EXCLUDES(mutex_);
  // Goes on with one that was held back because nobody read.
  void Resume(std::shared_ptr<HttpTransfer> transfer) EXCLUDES(mutex_);

 private:
  enum class What { kAdd, kCancel, kResume };
  struct Command {
    What what;
    std::shared_ptr<HttpTransfer> transfer;
  };

  explicit HttpLoop(CURLM* multi);
  void Queue(What what, std::shared_ptr<HttpTransfer> transfer) EXCLUDES(mutex_);
  void Run(std::stop_token stop) EXCLUDES(mutex_);
  void Obey(const Command& command);
  void Start(const std::shared_ptr<HttpTransfer>& transfer);
  void CollectFinished();
  void CancelAll() EXCLUDES(mutex_);

  CURLM* const multi_;
  std::map<CURL*, std::shared_ptr<HttpTransfer>> active_;  // the thread's own

  Mutex mutex_;
  std::deque<Command> commands_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace muster::k8s
