#include "launcher/gateway/gateway.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <map>
#include <thread>

#include "launcher/gateway/connection.h"
#include "runtime/base/thread_annotations.h"

namespace muster {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kAcceptRetry{100};  // when the process has no descriptor left

Result<tcp::acceptor> Listen(asio::io_context& context, const GatewayOptions& options) {
  tcp::acceptor acceptor(context);
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error)
    return Err(Code::kInvalidArgument, "{} is no IP address to listen on", options.address);
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) return acceptor;
  return Err(Code::kUnavailable, "cannot listen on {}:{}: {}", options.address, options.port,
             error.message());
}

}  // namespace

Status GatewayOptions::Validate() const {
  if (port < 0 || port > 65'535)
    return Err(Code::kInvalidArgument, "port is {}, not 0 to 65535", port);
  if (secret.size() != 64)
    return Err(Code::kInvalidArgument, "the secret has {} characters, not 64", secret.size());
  if (max_connections < 1 || max_streams < 1 || max_header_bytes < 256 || max_body_bytes < 256)
    return Err(Code::kInvalidArgument,
               "max_connections and max_streams are at least 1, max_header_bytes and "
               "max_body_bytes at least 256");
  const Duration shortest = std::min({request_deadline, chunk_deadline, idle_deadline,
                                      answer_deadline, write_deadline, heartbeat, log_period});
  if (shortest <= Duration::zero())
    return Err(Code::kInvalidArgument, "every deadline and period is longer than 0");
  return {};
}

class Gateway::Impl final : public ConnectionHost {
 public:
  Impl(const GatewayOptions& options, GatewaySource& source,
       std::shared_ptr<asio::io_context> context, tcp::acceptor acceptor)
      : options_(options),
        router_(source, options.secret),
        context_(std::move(context)),
        guard_(asio::make_work_guard(*context_)),
        acceptor_(std::move(acceptor)),
        retry_(*context_),
        port_(acceptor_.local_endpoint().port()) {}

  ~Impl() override { Shutdown(); }

  void Start() {
    Accept();
    thread_ = std::jthread([this] {
      ::pthread_setname_np(::pthread_self(), "muster-gateway");
      context_->run();
    });
  }

  int port() const { return port_; }
  void SetReady() { router_.SetReady(); }

  void EventsChanged() {
    // Many events at once are one look.
    if (poked_.exchange(true)) return;
    asio::post(*context_, [this] {
      poked_ = false;
      for (const auto& connection : Copy()) connection->Poke();
    });
  }

  bool WaitUntilQuiet(TimePoint deadline) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (streams_ > 0) {
      if (quiet_.wait_until(mutex_, deadline) == std::cv_status::timeout) return streams_ == 0;
    }
    return true;
  }

  void Shutdown() {
    if (!thread_.joinable()) return;
    asio::post(*context_, [this] {
      shut_ = true;
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
      for (const auto& connection : Copy()) connection->Close();
      guard_.reset();  // the thread ends when all that was under way has been cancelled
    });
    thread_.join();
  }

  // --- ConnectionHost: on the gateway's thread ---

  const GatewayOptions& options() const override { return options_; }
  Router& router() override { return router_; }
  std::shared_ptr<asio::io_context> context() override { return context_; }

  bool OpenStream() override EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (streams_ >= options_.max_streams) return false;
    ++streams_;
    return true;
  }

  void CloseStream() override EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      --streams_;
    }
    quiet_.notify_all();
  }

  void Forget(Connection& connection) override {
    connections_.erase(&connection);
    if (!accepting_) Accept();
  }

 private:
  // One accept is under way, except while all places are taken.
  void Accept() {
    accepting_ = !shut_ && connections_.size() < options_.max_connections + kSpareConnections;
    if (!accepting_) return;
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (shut_) return;
      if (!error) return Serve(std::move(socket));
      retry_.expires_after(kAcceptRetry);
      retry_.async_wait([this](error_code cancelled) {
        if (!cancelled) Accept();
      });
    });
  }

  void Serve(tcp::socket socket) {
    error_code ignored;  // a client that has gone already is noticed at the first read
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    const bool crowded = connections_.size() >= options_.max_connections;
    const auto connection = std::make_shared<Connection>(std::move(socket), *this, crowded);
    connections_.emplace(connection.get(), connection);
    connection->Run();
    Accept();
  }

  // Closing one changes the map.
  std::vector<std::shared_ptr<Connection>> Copy() const {
    std::vector<std::shared_ptr<Connection>> all;
    for (const auto& [key, connection] : connections_) all.push_back(connection);
    return all;
  }

  const GatewayOptions options_;
  // The gateway's thread has these.
  Router router_;
  const std::shared_ptr<asio::io_context> context_;
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::map<Connection*, std::shared_ptr<Connection>> connections_;
  bool accepting_ = false;
  bool shut_ = false;

  const int port_;
  std::atomic<bool> poked_{false};
  Mutex mutex_;
  std::condition_variable_any quiet_;
  size_t streams_ GUARDED_BY(mutex_) = 0;
  std::jthread thread_;
};

Result<std::unique_ptr<Gateway>> Gateway::Create(const GatewayOptions& options,
                                                 GatewaySource& source) {
  MUSTER_TRY(options.Validate());
  auto context = std::make_shared<asio::io_context>(1);
  MUSTER_ASSIGN(tcp::acceptor acceptor, Listen(*context, options));
  auto impl = std::make_unique<Impl>(options, source, std::move(context), std::move(acceptor));
  impl->Start();
  return std::unique_ptr<Gateway>(new Gateway(std::move(impl)));
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() = default;
int Gateway::port() const { return impl_->port(); }
void Gateway::SetReady() { impl_->SetReady(); }
void Gateway::EventsChanged() { impl_->EventsChanged(); }
bool Gateway::WaitUntilQuiet(TimePoint deadline) { return impl_->WaitUntilQuiet(deadline); }
void Gateway::Shutdown() { impl_->Shutdown(); }

}  // namespace muster
