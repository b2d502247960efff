// HttpTransport: sends requests to one server over kept connections, and reads the answers, whole or as streams.
//
// Threading: safe from any thread. One thread of its own does all network I/O, for all requests at once; callers wait on their
// answer, with a deadline and a stop token. Ownership: streams, and calls that wait, may outlive the transport: they end with
// kCancelled when it is destroyed.
// Nothing of headers and bodies is ever logged or put into errors: they hold secrets.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "k8s/client/exec_credential.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster::k8s {

class HttpLoop;
class HttpTransfer;

struct HttpOptions {
  std::string certificate_authority_pem;  // whom to trust; empty: what the system trusts
  bool verify_server = true;
  std::string tls_server_name;  // the name that the certificate must have; empty: the URL's
  std::string proxy_url;        // empty: from the environment
  bool compression = true;      // accept gzip
  bool http2 = true;            // over TLS, if the server can: many requests share a connection
  int max_connections = 16;     // to the server; over HTTP/1.1 each request and stream needs one
  Duration connect_timeout = std::chrono::seconds(10);
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;
  std::shared_ptr<const Credentials>
      credentials;     // sent as header or client certificate; null: none
  TimePoint deadline;  // Send: for all of the answer; Open: for its head
  size_t max_body_bytes = size_t{64}
                          << 20;  // Send: of the answer, after decompression; Open: no limit
  std::stop_token stop;           // gives up at once, also while a stream is read
};

struct HttpHead {
  int status = 0;
  int version = 0;                             // 11 or 20
  std::map<std::string, std::string> headers;  // names in lower case; of repeated ones the last
};

struct HttpResponse {
  HttpHead head;
  std::string body;
};

// The answer to one request, read as it comes. If it is not read, the server is made to wait: some MiB are held at most.
// Threading: one thread at a time. Destroying it gives up the request; that does not block.
class HttpStream {
 public:
  HttpStream(std::shared_ptr<HttpLoop> loop, std::shared_ptr<HttpTransfer> transfer, HttpHead head);
  ~HttpStream();
  HttpStream(const HttpStream&) = delete;
  HttpStream& operator=(const HttpStream&) = delete;

  const HttpHead& head() const { return head_; }

  // The bytes that have come since the last call, decompressed; empty at the end of the body. Blocks until there are some, at most
  // until `until`. Errors: kDeadlineExceeded (nothing came; the stream goes on and can be read again), kCancelled (stop token, or
  // the transport is being destroyed), kUnavailable (cut off), kDataLoss (bad compression).
  Result<std::string> Read(TimePoint until);

 private:
  std::shared_ptr<HttpLoop> loop_;
  std::shared_ptr<HttpTransfer> transfer_;
  HttpHead head_;
};

class HttpTransport {
 public:
  // Errors: kInternal (no thread, no libcurl).
  static Result<std::unique_ptr<HttpTransport>> Create(HttpOptions options);
  ~HttpTransport();  // ends requests under way with kCancelled; waits for the thread, milliseconds
  HttpTransport(const HttpTransport&) = delete;
  HttpTransport& operator=(const HttpTransport&) = delete;

  // The whole answer, whatever its status; redirects are not followed. Blocks at most until the deadline.
  // A request on a kept connection that the server had just closed is sent again by itself, so that a server may see any request
  // twice. Errors: kUnavailable (not reached, or cut off: the server may have done it nevertheless), kDeadlineExceeded,
  // kCancelled, kUnauthenticated (TLS: whom we trust, or who we are), kResourceExhausted (more than `max_body_bytes`),
  // kInvalidArgument (URL, certificate), kDataLoss.
  Result<HttpResponse> Send(HttpRequest request);

  // The head of the answer, and its body to read. Blocks until the head is there. Errors: as above.
  Result<std::unique_ptr<HttpStream>> Open(HttpRequest request);

 private:
  HttpTransport(HttpOptions options, std::shared_ptr<HttpLoop> loop);

  const HttpOptions options_;
  const std::shared_ptr<HttpLoop> loop_;  // also of the calls under way and the streams
};

}  // namespace muster::k8s
