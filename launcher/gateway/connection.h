// Connection: one client of the gateway, request after request, by Boost.Beast.
//
//   wait for a request -> its header -> refuse, or its body -> the job -> answer, or stream -> wait
//
// Threading: all methods, and whatever it calls, run on the thread of its io_context; only answers of the job come from others.
// Ownership: the host keeps a connection until it calls Forget; operations under way keep it a moment longer.
// This header brings in Boost.Beast; include it from .cc files only.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>

#include "launcher/gateway/gateway.h"
#include "launcher/gateway/router.h"

namespace muster {

class Connection;

// What a connection needs of the gateway. It outlives all connections that have not been closed.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  virtual const GatewayOptions& options() const = 0;
  virtual Router& router() = 0;
  virtual std::shared_ptr<boost::asio::io_context> context() = 0;
  // A place among the streams; false if all are taken.
  virtual bool OpenStream() = 0;
  virtual void CloseStream() = 0;
  // The connection is closed. The last call that it makes.
  virtual void Forget(Connection& connection) = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  // A `crowded` one is there to be refused.
  Connection(Socket socket, ConnectionHost& host, bool crowded);

  // Begins to serve. Once.
  void Run();
  // Its stream, if it has one, may have more to say.
  void Poke();
  // Cuts it, in the middle of whatever it does. May be repeated.
  void Close();

 private:
  using ErrorCode = boost::beast::error_code;

  void AwaitRequest(Duration patience);
  void ReadHeader();
  void OnHeader(ErrorCode error);
  void OnRequest(ErrorCode error);
  void OnReadFailed(ErrorCode error);
  GatewayRequest TakeRequest();

  void AskTheJob();
  void Deliver(uint64_t question, GatewayOutcome outcome);
  void Answer(const GatewayAnswer& answer, bool keep);
  void Linger();

  void StartStream(GatewayStream stream);
  void WatchClient();
  void Pump(bool heartbeat);
  void WriteChunk(std::string text);
  void FinishStream();
  void RestUntilNextLook();

  ConnectionHost& host_;
  const GatewayOptions& options_;
  const bool crowded_;
  boost::beast::tcp_stream stream_;
  boost::asio::steady_timer timer_;  // for the job's answer; between the pieces of a stream
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  boost::beast::http::response<boost::beast::http::string_body> answer_;
  size_t max_body_ = 0;  // bytes, of the request that is being read
  bool closed_ = false;

  uint64_t question_ = 0;  // number of the request that the job is asked
  bool asking_ = false;    // and has not answered yet

  std::optional<GatewayStream> text_;  // the stream under way
  boost::beast::http::response<boost::beast::http::empty_body> head_;
  std::optional<boost::beast::http::response_serializer<boost::beast::http::empty_body>>
      head_writer_;
  std::string chunk_;     // that is being written
  bool writing_ = false;  // to the stream
  char unwanted_[512];    // what a client says during a stream, or after a refusal
};

}  // namespace muster
