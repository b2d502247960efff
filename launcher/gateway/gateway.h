// Gateway: a small HTTP/1.1 JSON interface of a job, for those whom gRPC does not reach: the command line tool behind the API
// server's service proxy, probes, and Prometheus. docs/gateway.md lists the routes.
//
// Each request but those of probes must carry the job's secret in X-Muster-Secret. Every refusal is a JSON object {"error",
// "code", "hint"}. A client that is too slow is cut: every read and write has a deadline.
//
// Threading: all methods are safe from any thread except from inside the source. One thread serves all clients.
// Ownership: `source` must outlive the gateway; it is not called any more once Shutdown has returned. Answers that come later
// are dropped.
#pragma once

#include <memory>
#include <string>

#include "launcher/gateway/gateway_source.h"
#include "runtime/base/status.h"
#include "runtime/base/time.h"

namespace muster {

struct GatewayOptions {
  std::string address = "127.0.0.1";  // an IP address; 0.0.0.0: all of the machine
  int port = 0;                       // 0: any free one
  std::string secret;                 // 64 hex digits that requests must carry
  size_t max_connections = 256;       // more are answered with 503, except probes
  size_t max_streams = 64;            // among them: long answers under way at a time
  size_t max_header_bytes = 8 << 10;  // of one request
  size_t max_body_bytes = 16 << 10;
  size_t max_chunk_bytes = size_t{3} << 20;              // the same for a chunk of the job's files
  Duration request_deadline = std::chrono::seconds(10);  // first byte to last one of a request
  Duration chunk_deadline = std::chrono::seconds(60);    // the same for such a chunk
  Duration idle_deadline = std::chrono::seconds(90);     // without a request
  Duration answer_deadline = std::chrono::seconds(30);   // for the job to answer
  Duration write_deadline = std::chrono::seconds(30);    // for an answer, or a piece of a long one
  Duration heartbeat = std::chrono::seconds(5);  // a silent stream of events gets an empty line
  Duration log_period = std::chrono::milliseconds(200);  // how often a log is looked at again

  // Errors: kInvalidArgument, naming the field and its range.
  Status Validate() const;
};

class Gateway {
 public:
  // Connections above max_connections that wait for their 503; those above wait to be accepted.
  static constexpr size_t kSpareConnections = 16;

  // Listens when it returns. Errors: kInvalidArgument (options); kUnavailable if the address cannot be had.
  static Result<std::unique_ptr<Gateway>> Create(const GatewayOptions& options,
                                                 GatewaySource& source);
  ~Gateway();

  int port() const;

  // From now on /readyz says yes.
  void SetReady();

  // There is something new for those who follow events or logs. Does not block.
  void EventsChanged();

  // Waits until no stream is open any more; false if some are at the deadline.
  bool WaitUntilQuiet(TimePoint deadline);

  // Cuts all connections and stops listening. A stream that is cut lacks its last chunk: its reader knows that it has not seen
  // the end. Returns within milliseconds.
  void Shutdown();

 private:
  class Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
