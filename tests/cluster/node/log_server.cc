#include "tests/cluster/node/log_server.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cerrno>
#include <cstring>
#include <future>
#include <map>
#include <span>
#include <thread>

#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/thread_annotations.h"
#include "tests/cluster/node/log_lines.h"

namespace muster::cluster {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr auto kPatience = 30s;  // with a client, for each thing that it is to do
constexpr auto kLook = 100ms;    // how often those who follow a log are told what is new
constexpr size_t kReadBytes = 64 << 10;

asio::redirect_error_t<asio::use_awaitable_t<>> Into(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

// The log of one container. Its thread appends and reads; only `ended` is for another one.
struct PodLog {
  std::string container;
  UniqueFd file;
  std::vector<LogPiece> pieces;
  bool over = false;
  std::promise<void> ended;

  uint64_t size() const { return pieces.empty() ? 0 : pieces.back().end; }

  std::string Read(uint64_t begin, uint64_t end) const {
    std::string bytes(end - begin, '\0');
    const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(begin));
    bytes.resize(std::max<ssize_t>(got, 0));
    return bytes;
  }

  void Append(std::string_view bytes) {
    const Status wrote = WriteAll(file.get(), std::as_bytes(std::span(bytes)), "log of a pod");
    if (!wrote) log::warn("{}", wrote.error().message);
    pieces.push_back({size() + bytes.size(), std::chrono::system_clock::now()});
  }
};

asio::awaitable<void> Collect(asio::posix::stream_descriptor pipe, std::shared_ptr<PodLog> log) {
  std::vector<char> buffer(kReadBytes);
  error_code error;
  while (!error) {
    const size_t got = co_await pipe.async_read_some(asio::buffer(buffer), Into(error));
    if (got > 0) log->Append({buffer.data(), got});
  }
  log->over = true;
  log->ended.set_value();
}

// One client, for one request.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Find = std::function<std::shared_ptr<PodLog>(const std::string& pod)>;

  Session(tcp::socket socket, asio::ssl::context& tls, Find find)
      : stream_(std::move(socket), tls), timer_(stream_.get_executor()), find_(std::move(find)) {}

  asio::awaitable<void> Run() {
    error_code error;
    beast::get_lowest_layer(stream_).expires_after(kPatience);
    co_await stream_.async_handshake(asio::ssl::stream_base::server, Into(error));
    beast::flat_buffer buffer;
    http::request<http::string_body> request;
    if (!error) co_await http::async_read(stream_, buffer, request, Into(error));
    if (error) co_return;
    const auto asked = ParseLogTarget(std::string_view(request.target()));
    if (!asked) {
      co_await Refuse(asked.error());
    } else if (const auto log = find_(asked->pod); log && log->container == asked->container) {
      asio::co_spawn(stream_.get_executor(), WatchClient(shared_from_this()), asio::detached);
      co_await Send(*asked, log);
    } else {
      Error missing{Code::kNotFound,
                    fmt::format("container {} of pod {} is not here", asked->container, asked->pod),
                    ""};
      co_await Refuse(std::move(missing));
    }
  }

 private:
  asio::awaitable<void> Refuse(Error why) {
    http::response<http::string_body> answer(
        why.code == Code::kNotFound ? http::status::not_found : http::status::bad_request, 11);
    answer.set(http::field::content_type, "text/plain");
    answer.keep_alive(false);
    answer.body() = why.message + "\n";
    answer.prepare_payload();
    error_code error;
    co_await http::async_write(stream_, answer, Into(error));
    co_await stream_.async_shutdown(Into(error));
  }

  asio::awaitable<void> Send(LogRequest request, std::shared_ptr<PodLog> log) {
    http::response<http::empty_body> head(http::status::ok, 11);
    head.set(http::field::content_type, "text/plain");
    head.keep_alive(false);
    head.chunked(true);
    http::response_serializer<http::empty_body> serializer(head);
    error_code error;
    co_await http::async_write_header(stream_, serializer, Into(error));
    const std::string all = log->Read(0, log->size());
    uint64_t sent = LogBegin(request, all, log->pieces, std::chrono::system_clock::now());
    uint64_t left = request.limit_bytes.value_or(UINT64_MAX);
    bool at_line_begin = true;
    while (!error && !client_gone_ && left > 0) {
      const bool over = log->over;  // before the size: what is there then is all
      if (log->size() > sent) {
        const std::string bytes = log->Read(sent, log->size());
        std::string text = LogText(request, bytes, sent, log->pieces, at_line_begin);
        text.resize(std::min<uint64_t>(text.size(), left));
        sent += bytes.size();
        left -= text.size();
        at_line_begin = bytes.ends_with('\n');
        beast::get_lowest_layer(stream_).expires_after(kPatience);
        co_await asio::async_write(stream_, http::make_chunk(asio::buffer(text)), Into(error));
      } else if (over || !request.follow) {
        break;
      } else {
        timer_.expires_after(kLook);
        co_await timer_.async_wait(Into(error));
      }
    }
    co_await asio::async_write(stream_, http::make_chunk_last(), Into(error));
    beast::get_lowest_layer(stream_).close();
  }

  // Nothing is expected of the client but that it goes.
  static asio::awaitable<void> WatchClient(std::shared_ptr<Session> self) {
    char unwanted[256];
    beast::get_lowest_layer(self->stream_).expires_never();  // of reads; a write may be under way
    error_code error;
    while (!error) co_await self->stream_.async_read_some(asio::buffer(unwanted), Into(error));
    self->client_gone_ = true;
  }

  beast::ssl_stream<beast::tcp_stream> stream_;
  asio::steady_timer timer_;
  const Find find_;
  bool client_gone_ = false;
};

}  // namespace

class LogServer::Server {
 public:
  explicit Server(const LogServerOptions& options)
      : tls_(asio::ssl::context::tls_server),
        acceptor_(context_, {asio::ip::make_address(options.address),
                             static_cast<asio::ip::port_type>(options.port)}) {
    tls_.use_certificate_chain_file(options.keys / "machines.crt");
    tls_.use_private_key_file(options.keys / "machines.key", asio::ssl::context::pem);
    tls_.load_verify_file(options.keys / "ca.crt");
    tls_.set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
    asio::co_spawn(context_, Accept(), asio::detached);
    thread_ = std::jthread([this] { context_.run(); });
  }
  ~Server() { context_.stop(); }

  Result<UniqueFd> Open(const std::string& pod, const std::string& container,
                        const std::filesystem::path& path) EXCLUDES(mutex_) {
    auto log = std::make_shared<PodLog>();
    log->container = container;
    log->file.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
    int ends[2];
    if (!log->file || ::pipe2(ends, O_CLOEXEC) != 0) {
      return Err(Code::kInternal, "{}: {}", path.string(), std::strerror(errno));
    }
    asio::posix::stream_descriptor pipe(context_, ends[0]);
    {
      MutexLock lock(mutex_);
      logs_[pod] = log;
    }
    asio::co_spawn(context_, Collect(std::move(pipe), std::move(log)), asio::detached);
    return UniqueFd(ends[1]);
  }

  std::shared_ptr<PodLog> Find(const std::string& pod) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = logs_.find(pod);
    return found == logs_.end() ? nullptr : found->second;
  }

  void Forget(const std::string& pod) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    logs_.erase(pod);
  }

 private:
  asio::awaitable<void> Accept() {
    for (;;) {
      error_code error;
      tcp::socket socket = co_await acceptor_.async_accept(Into(error));
      if (error) continue;
      auto session = std::make_shared<Session>(
          std::move(socket), tls_, [this](const std::string& pod) { return Find(pod); });
      asio::co_spawn(
          context_, [session]() -> asio::awaitable<void> { co_await session->Run(); },
          asio::detached);
    }
  }

  asio::io_context context_;
  asio::ssl::context tls_;
  tcp::acceptor acceptor_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<PodLog>> logs_ GUARDED_BY(mutex_);
  std::jthread thread_;
};

LogServer::LogServer(std::unique_ptr<Server> server) : server_(std::move(server)) {}
LogServer::~LogServer() = default;

Result<std::unique_ptr<LogServer>> LogServer::Create(const LogServerOptions& options) {
  try {
    return std::unique_ptr<LogServer>(new LogServer(std::make_unique<Server>(options)));
  } catch (const boost::system::system_error& error) {
    return Err(Code::kInternal, "the server of logs at {}:{}: {}", options.address, options.port,
               error.what());
  }
}

Result<UniqueFd> LogServer::Open(const std::string& pod, const std::string& container,
                                 const std::filesystem::path& file) {
  return server_->Open(pod, container, file);
}

void LogServer::AwaitEnd(const std::string& pod, TimePoint deadline) {
  if (const auto log = server_->Find(pod)) log->ended.get_future().wait_until(deadline);
}

void LogServer::Forget(const std::string& pod) { server_->Forget(pod); }

}  // namespace muster::cluster
