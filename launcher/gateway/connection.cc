#include "launcher/gateway/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

namespace muster {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::chrono::seconds kLinger{1};
constexpr size_t kReadBytes = 4 << 10;
constexpr char kSecretHeader[] = "X-Muster-Secret";

bool IsHttpError(beast::error_code error) {
  return error.category() == http::make_error_code(http::error::bad_method).category();
}

}  // namespace

Connection::Connection(Socket socket, ConnectionHost& host, bool crowded)
    : host_(host),
      options_(host.options()),
      crowded_(crowded),
      stream_(std::move(socket)),
      timer_(stream_.get_executor()),
      buffer_(options_.max_header_bytes + options_.max_body_bytes + kReadBytes) {}

void Connection::Run() {
  // A client that does not even begin to ask has less patience coming than one that has asked before.
  AwaitRequest(options_.request_deadline);
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  if (text_) host_.CloseStream();
  text_.reset();
  timer_.cancel();
  beast::error_code ignored;
  stream_.socket().shutdown(Socket::shutdown_both, ignored);
  stream_.close();
  host_.Forget(*this);
}

// --- Requests -------------------------------------------------------------------------------------------------------------

void Connection::AwaitRequest(Duration patience) {
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(options_.max_header_bytes));
  max_body_ = options_.max_body_bytes;  // more for a chunk, which the header tells
  parser_->body_limit(std::max(options_.max_body_bytes, options_.max_chunk_bytes));
  if (buffer_.size() > 0) return ReadHeader();
  stream_.expires_after(patience);
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](ErrorCode error, size_t bytes) {
                            if (error || self->closed_) return self->Close();
                            self->buffer_.commit(bytes);
                            self->ReadHeader();
                          });
}

void Connection::ReadHeader() {
  // For the whole request: a client that sends a byte now and then is not served for ever.
  stream_.expires_after(options_.request_deadline);
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](ErrorCode error, size_t) { self->OnHeader(error); });
}

void Connection::OnHeader(ErrorCode error) {
  if (closed_) return;
  if (error) return OnReadFailed(error);
  const auto refusal = host_.router().Refusal(TakeRequest(), crowded_);
  if (refusal) return Answer(*refusal, parser_->is_done() && !crowded_);
  if (Router::CarriesChunk(parser_->get().target())) {
    max_body_ = options_.max_chunk_bytes;
    stream_.expires_after(options_.chunk_deadline);
  }
  if (parser_->content_length().value_or(0) > max_body_)
    return OnReadFailed(http::error::body_limit);
  parser_->body_limit(max_body_);
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](ErrorCode error, size_t) { self->OnRequest(error); });
}

void Connection::OnRequest(ErrorCode error) {
  if (closed_) return;
  if (error) return OnReadFailed(error);
  AskTheJob();
}

void Connection::OnReadFailed(ErrorCode error) {
  if (error == beast::error::timeout) {
    host_.router().Count(408);
    return Close();
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message) return Close();
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Answer(
        ErrorAnswer(
            {Code::kResourceExhausted,
             fmt::format("the header is longer than {} bytes", options_.max_header_bytes), ""},
            431),
        false);
  }
  if (error == http::error::body_limit) {
    return Answer(ErrorAnswer({Code::kResourceExhausted,
                               fmt::format("the body is longer than {} bytes", max_body_), ""},
                              413),
                  false);
  }
  if (!IsHttpError(error)) return Close();
  Answer(ErrorAnswer({Code::kInvalidArgument, "this is no HTTP request: " + error.message(), ""}),
         false);
}

GatewayRequest Connection::TakeRequest() {
  const auto& message = parser_->get();
  return {std::string(message.method_string()), std::string(message.target()),
          std::string(message[kSecretHeader]), message.body()};
}

// --- Answers --------------------------------------------------------------------------------------------------------------

void Connection::AskTheJob() {
  asking_ = true;
  const uint64_t question = ++question_;
  timer_.expires_after(options_.answer_deadline);
  timer_.async_wait([self = shared_from_this(), question](ErrorCode error) {
    if (error) return;
    self->Deliver(question,
                  ErrorAnswer({Code::kDeadlineExceeded, "the job has not answered in time",
                               "it may still do what was asked; look at /v1/status"}));
  });
  // The job may answer from any thread, and after the gateway is gone: then there is nobody to deliver to.
  host_.router().Handle(TakeRequest(), [weak = weak_from_this(), context = host_.context(),
                                        question](GatewayOutcome outcome) {
    asio::post(*context, [weak, question, outcome = std::move(outcome)]() mutable {
      if (const auto self = weak.lock()) self->Deliver(question, std::move(outcome));
    });
  });
}

void Connection::Deliver(uint64_t question, GatewayOutcome outcome) {
  if (closed_ || !asking_ || question != question_) return;
  asking_ = false;
  timer_.cancel();
  if (auto* stream = std::get_if<GatewayStream>(&outcome)) return StartStream(std::move(*stream));
  Answer(std::get<GatewayAnswer>(outcome), !crowded_);
}

void Connection::Answer(const GatewayAnswer& answer, bool keep) {
  host_.router().Count(answer.status);
  keep = keep && parser_->get().keep_alive();
  answer_ = {};
  answer_.version(11);
  answer_.result(static_cast<unsigned>(answer.status));
  answer_.set(http::field::content_type, answer.type);
  answer_.set(http::field::cache_control, "no-store");
  if (!answer.allow.empty()) answer_.set(http::field::allow, answer.allow);
  answer_.keep_alive(keep);
  answer_.body() = answer.body;
  answer_.prepare_payload();
  stream_.expires_after(options_.write_deadline);
  http::async_write(stream_, answer_, [self = shared_from_this(), keep](ErrorCode error, size_t) {
    if (self->closed_) return;
    if (error) return self->Close();
    if (keep) return self->AwaitRequest(self->options_.idle_deadline);
    beast::error_code ignored;
    self->stream_.socket().shutdown(Socket::shutdown_send, ignored);
    self->stream_.expires_after(kLinger);
    self->Linger();
  });
}

// Reads on until the client has gone: closing with bytes unread would reset the connection, and the answer might be lost.
void Connection::Linger() {
  stream_.async_read_some(asio::buffer(unwanted_),
                          [self = shared_from_this()](ErrorCode error, size_t) {
                            if (error) return self->Close();
                            self->Linger();
                          });
}

// --- Streams --------------------------------------------------------------------------------------------------------------

void Connection::StartStream(GatewayStream stream) {
  if (!host_.OpenStream()) {
    return Answer(ErrorAnswer({Code::kResourceExhausted,
                               fmt::format("{} streams are open", options_.max_streams),
                               "try again when one has ended"}),
                  true);
  }
  text_ = std::move(stream);
  host_.router().Count(200);
  head_.version(11);
  head_.result(http::status::ok);
  head_.set(http::field::content_type, text_->type);
  head_.set(http::field::cache_control, "no-store");
  head_.set(http::field::connection, "close");
  head_.chunked(true);
  head_writer_.emplace(head_);
  stream_.expires_never();
  WatchClient();
  writing_ = true;
  stream_.expires_after(options_.write_deadline);  // of writes: a read is under way
  http::async_write_header(stream_, *head_writer_,
                           [self = shared_from_this()](ErrorCode error, size_t) {
                             self->writing_ = false;
                             if (error) return self->Close();
                             self->Pump(false);
                           });
}

// Nothing is expected of the client but that it goes.
void Connection::WatchClient() {
  stream_.async_read_some(asio::buffer(unwanted_),
                          [self = shared_from_this()](ErrorCode error, size_t) {
                            if (error) return self->Close();
                            self->WatchClient();
                          });
}

void Connection::Poke() {
  if (text_) Pump(false);
}

void Connection::Pump(bool heartbeat) {
  if (closed_ || writing_) return;  // a write that ends looks again
  TextStream::Piece piece = text_->text->Next();
  if (piece.end) {
    // The last piece and the end of the body go out as one.
    chunk_ = std::move(piece.text);
    return FinishStream();
  }
  if (piece.text.empty() && heartbeat) piece.text = text_->heartbeat;
  if (piece.text.empty()) return RestUntilNextLook();
  WriteChunk(std::move(piece.text));
}

void Connection::WriteChunk(std::string text) {
  chunk_ = std::move(text);
  writing_ = true;
  stream_.expires_after(options_.write_deadline);
  asio::async_write(stream_, http::make_chunk(asio::buffer(chunk_)),
                    [self = shared_from_this()](ErrorCode error, size_t) {
                      self->writing_ = false;
                      if (error) return self->Close();
                      self->Pump(false);
                    });
}

void Connection::FinishStream() {
  writing_ = true;
  stream_.expires_after(options_.write_deadline);
  const auto close = [self = shared_from_this()](ErrorCode, size_t) { self->Close(); };
  if (chunk_.empty()) return asio::async_write(stream_, http::make_chunk_last(), close);
  asio::async_write(
      stream_, beast::buffers_cat(http::make_chunk(asio::buffer(chunk_)), http::make_chunk_last()),
      close);
}

void Connection::RestUntilNextLook() {
  timer_.expires_after(text_->poll ? options_.log_period : options_.heartbeat);
  timer_.async_wait([self = shared_from_this()](ErrorCode error) {
    if (!error) self->Pump(true);
  });
}

}  // namespace muster
