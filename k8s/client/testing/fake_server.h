// FakeServer: an HTTP/1.1 server for tests that misbehaves on demand: stays silent, cuts connections in the middle, splits its
// answers anywhere. What it does to each request is a function of the test's.
//
// Threading: a thread accepts, one more serves each connection and calls the handlers; all methods are safe from any thread.
// Ownership: what handlers capture outlives the server. The destructor closes all connections and waits for the handlers: every
// blocking call of an exchange returns then.
#pragma once

#include <openssl/ssl.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "k8s/client/testing/certificates.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/base/time.h"
#include "runtime/base/unique_fd.h"

namespace muster::k8s {

struct FakeRequest {
  std::string method;
  std::string target;                          // path and query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  int connection = 0;       // 1 is the first one that came
  std::string client_name;  // the common name of the client's certificate
};

// One request, to be answered. All writes return false when the client is gone.
class FakeExchange {
 public:
  FakeExchange(FakeRequest request, int fd, SSL* ssl)
      : request_(std::move(request)), fd_(fd), ssl_(ssl) {}

  const FakeRequest& request() const { return request_; }

  // A whole answer. Headers are lines without their end.
  bool Answer(int status, std::string_view body, const std::vector<std::string>& headers = {});
  // An answer in chunks.
  bool Start(int status, const std::vector<std::string>& headers = {});
  bool Chunk(std::string_view bytes);
  bool End();
  // Bytes as they are.
  bool Raw(std::string_view bytes);
  // Closes the connection when the handler returns, without having said so.
  void Close() { keep_ = false; }
  // Blocks until the client has closed the connection or the server is being destroyed.
  void AwaitClientGone();

  bool keep() const { return keep_; }

 private:
  FakeRequest request_;
  int fd_;
  SSL* ssl_;
  bool keep_ = true;
};

class FakeServer {
 public:
  using Handler = std::function<void(FakeExchange&)>;

  // Listens on a free port of 127.0.0.1; with `tls`, by TLS, asking for a client certificate.
  explicit FakeServer(std::shared_ptr<const TestCertificates> tls = nullptr);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // The next request that no earlier Then() takes goes to `handler`. Without one, a request is answered with 501.
  void Then(Handler handler) EXCLUDES(mutex_);
  void ThenAnswer(int status, std::string body, std::vector<std::string> headers = {});
  // Requests beyond those of Then().
  void Otherwise(Handler handler) EXCLUDES(mutex_);

  std::string url() const;
  int port() const { return port_; }
  int connections() EXCLUDES(mutex_);
  std::vector<FakeRequest> requests() EXCLUDES(mutex_);
  // Waits until `count` requests have come, in all; false after a minute.
  bool AwaitRequests(size_t count) EXCLUDES(mutex_);

 private:
  void Accept();
  void Serve(int fd, int connection);
  // Takes the whole next request. False at the end of the connection.
  bool ReadRequest(int fd, SSL* ssl, std::string* waiting, FakeRequest* request);
  Handler HandlerFor(const FakeRequest& request) EXCLUDES(mutex_);

  const std::shared_ptr<const TestCertificates> tls_;
  UniqueFd listener_;
  int port_ = 0;

  Mutex mutex_;
  std::condition_variable_any arrived_;
  std::deque<Handler> handlers_ GUARDED_BY(mutex_);
  Handler otherwise_ GUARDED_BY(mutex_);
  std::vector<FakeRequest> requests_ GUARDED_BY(mutex_);
  int connections_ GUARDED_BY(mutex_) = 0;
  std::set<int> open_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_ GUARDED_BY(mutex_);

  std::jthread acceptor_;
};

}  // namespace muster::k8s
