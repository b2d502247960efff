// HttpTransfer: one request on its way through libcurl: its settings, and the answer as far as it has come.
//
// Threading: the loop's thread owns the curl handle and feeds the answer in by its callbacks; one other thread waits for it and
// takes it out. Ownership: shared by the two; the handle lives as long as the transfer.
#pragma once

#include <curl/curl.h>

#include <condition_variable>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "k8s/client/http.h"
#include "runtime/base/thread_annotations.h"

namespace muster::k8s {

class HttpTransfer {
 public:
  // Errors: kInvalidArgument (URL), kInternal (libcurl refuses a setting).
  static Result<std::shared_ptr<HttpTransfer>> Create(const HttpOptions& options,
                                                      HttpRequest request);
  ~HttpTransfer();
  HttpTransfer(const HttpTransfer&) = delete;
  HttpTransfer& operator=(const HttpTransfer&) = delete;

  const HttpRequest& request() const { return request_; }
  std::string Name() const;  // "GET https://host/path", for error texts

  // For the loop's thread.
  CURL* handle() const { return handle_; }
  void Finish(CURLcode result) EXCLUDES(mutex_);
  void Fail(Error error) EXCLUDES(mutex_);

  // For the thread that waits. Both block at most until `until`; errors as in http.h.
  Result<HttpHead> AwaitHead(TimePoint until) EXCLUDES(mutex_);
  // Sets `*resume` if the loop held the transfer back until somebody reads.
  Result<std::string> Take(TimePoint until, bool* resume) EXCLUDES(mutex_);

 private:
  explicit HttpTransfer(HttpRequest request);

  Status Configure(const HttpOptions& options);
  Status ConfigureTls(const HttpOptions& options);
  Status ConfigureBody();
  Status UseServerName(const std::string& name);
  Status AddHeader(const std::string& line);

  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  bool TakeHeader(std::string_view line) EXCLUDES(mutex_);
  Error ErrorOf(CURLcode result) const;

  const HttpRequest request_;
  CURL* handle_ = nullptr;
  curl_slist* headers_ = nullptr;
  curl_slist* connect_to_ = nullptr;
  char error_text_[CURL_ERROR_SIZE] = {};

  Mutex mutex_;
  std::condition_variable_any changed_;
  HttpHead head_ GUARDED_BY(mutex_);
  size_t head_bytes_ GUARDED_BY(mutex_) = 0;
  bool have_head_ GUARDED_BY(mutex_) = false;
  std::string body_ GUARDED_BY(mutex_);  // what nobody has taken yet
  bool held_back_ GUARDED_BY(mutex_) = false;
  bool done_ GUARDED_BY(mutex_) = false;
  std::optional<Error> error_ GUARDED_BY(mutex_);
};

}  // namespace muster::k8s
