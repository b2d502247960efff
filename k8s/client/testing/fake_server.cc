#include "k8s/client/testing/fake_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>

#include "runtime/base/check.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;

constexpr size_t kMaxRequestBytes = size_t{64} << 20;

bool WriteBytes(int fd, SSL* ssl, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ssl != nullptr
                              ? SSL_write(ssl, bytes.data(), static_cast<int>(bytes.size()))
                              : ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (wrote <= 0) return false;
    bytes.remove_prefix(wrote);
  }
  return true;
}

ssize_t ReadBytes(int fd, SSL* ssl, char* buffer, size_t size) {
  return ssl != nullptr ? SSL_read(ssl, buffer, static_cast<int>(size))
                        : ::recv(fd, buffer, size, 0);
}

std::string Head(int status, const std::vector<std::string>& headers) {
  std::string head = fmt::format("HTTP/1.1 {} Status\r\n", status);
  const bool typed = std::any_of(headers.begin(), headers.end(), [](const std::string& line) {
    return line.starts_with("Content-Type:");
  });
  if (!typed) head += "Content-Type: application/json\r\n";
  for (const std::string& line : headers) head += line + "\r\n";
  return head;
}

std::string ClientName(SSL* ssl) {
  if (ssl == nullptr) return "";
  X509* const certificate = SSL_get1_peer_certificate(ssl);
  if (certificate == nullptr) return "";
  char name[256] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  X509_free(certificate);
  return name;
}

void ParseHead(std::string_view head, FakeRequest* request) {
  const auto line_end = head.find("\r\n");
  std::string_view first = head.substr(0, line_end);
  request->method = first.substr(0, first.find(' '));
  first.remove_prefix(std::min(first.size(), request->method.size() + 1));
  request->target = first.substr(0, first.find(' '));
  head.remove_prefix(line_end + 2);
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    const size_t colon = line.find(": ");
    if (colon != std::string_view::npos) {
      std::string name(line.substr(0, colon));
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      request->headers[name] = line.substr(colon + 2);
    }
    head.remove_prefix(std::min(head.size(), line.size() + 2));
  }
}

}  // namespace

bool FakeExchange::Raw(std::string_view bytes) { return WriteBytes(fd_, ssl_, bytes); }

bool FakeExchange::Answer(int status, std::string_view body,
                          const std::vector<std::string>& headers) {
  return Raw(Head(status, headers) +
             fmt::format("Content-Length: {}\r\n\r\n{}", body.size(), body));
}

bool FakeExchange::Start(int status, const std::vector<std::string>& headers) {
  return Raw(Head(status, headers) + "Transfer-Encoding: chunked\r\n\r\n");
}

bool FakeExchange::Chunk(std::string_view bytes) {
  return Raw(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes));
}

bool FakeExchange::End() { return Raw("0\r\n\r\n"); }

void FakeExchange::AwaitClientGone() {
  keep_ = false;
  char byte;
  while (ReadBytes(fd_, ssl_, &byte, 1) > 0) {
  }
}

FakeServer::FakeServer(std::shared_ptr<const TestCertificates> tls)
    : tls_(std::move(tls)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL raises it where a client is gone
  struct sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<struct sockaddr*>(&address);
  MUSTER_CHECK(::bind(listener_.get(), generic, size) == 0);
  MUSTER_CHECK(::listen(listener_.get(), 64) == 0);
  MUSTER_CHECK(::getsockname(listener_.get(), generic, &size) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::jthread([this] { Accept(); });
}

FakeServer::~FakeServer() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  ::shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  std::vector<std::jthread> threads;
  {
    MutexLock lock(mutex_);
    threads.swap(threads_);
  }
}

std::string FakeServer::url() const {
  return fmt::format("{}://127.0.0.1:{}", tls_ != nullptr ? "https" : "http", port_);
}

void FakeServer::Then(Handler handler) {
  MutexLock lock(mutex_);
  handlers_.push_back(std::move(handler));
}

void FakeServer::ThenAnswer(int status, std::string body, std::vector<std::string> headers) {
  Then([=](FakeExchange& exchange) { exchange.Answer(status, body, headers); });
}

void FakeServer::Otherwise(Handler handler) {
  MutexLock lock(mutex_);
  otherwise_ = std::move(handler);
}

int FakeServer::connections() {
  MutexLock lock(mutex_);
  return connections_;
}

std::vector<FakeRequest> FakeServer::requests() {
  MutexLock lock(mutex_);
  return requests_;
}

bool FakeServer::AwaitRequests(size_t count) {
  MutexLock lock(mutex_);
  return arrived_.wait_for(mutex_, 60s,
                           [&]() REQUIRES(mutex_) { return requests_.size() >= count; });
}

void FakeServer::Accept() {
  while (true) {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    MutexLock lock(mutex_);
    if (closed_) {
      ::close(fd);
      return;
    }
    open_.insert(fd);
    threads_.emplace_back([this, fd, connection = ++connections_] { Serve(fd, connection); });
  }
}

void FakeServer::Serve(int fd, int connection) {
  SSL* ssl = nullptr;
  bool good = true;
  if (tls_ != nullptr) {
    ssl = SSL_new(tls_->server_context());
    SSL_set_fd(ssl, fd);
    good = SSL_accept(ssl) == 1;
  }
  std::string waiting;
  while (good) {
    FakeRequest request;
    request.connection = connection;
    if (!ReadRequest(fd, ssl, &waiting, &request)) break;
    request.client_name = ClientName(ssl);
    FakeExchange exchange(request, fd, ssl);
    HandlerFor(request)(exchange);
    good = exchange.keep();
  }
  SSL_free(ssl);
  MutexLock lock(mutex_);
  open_.erase(fd);
  ::close(fd);
}

bool FakeServer::ReadRequest(int fd, SSL* ssl, std::string* waiting, FakeRequest* request) {
  size_t head_end;
  size_t length = 0;
  while (true) {
    head_end = waiting->find("\r\n\r\n");
    if (head_end != std::string::npos) {
      if (request->method.empty()) {
        ParseHead(std::string_view(*waiting).substr(0, head_end + 2), request);
        const auto found = request->headers.find("content-length");
        length = found == request->headers.end() ? 0 : std::stoul(found->second);
      }
      if (waiting->size() >= head_end + 4 + length) break;
    }
    char buffer[16384];
    const ssize_t got = ReadBytes(fd, ssl, buffer, sizeof buffer);
    if (got <= 0 || waiting->size() > kMaxRequestBytes) return false;
    waiting->append(buffer, got);
  }
  request->body = waiting->substr(head_end + 4, length);
  waiting->erase(0, head_end + 4 + length);
  return true;
}

FakeServer::Handler FakeServer::HandlerFor(const FakeRequest& request) {
  MutexLock lock(mutex_);
  requests_.push_back(request);
  arrived_.notify_all();
  if (!handlers_.empty()) {
    Handler handler = std::move(handlers_.front());
    handlers_.pop_front();
    return handler;
  }
  if (otherwise_) return otherwise_;
  return [](FakeExchange& exchange) { exchange.Answer(501, "the test expects no such request"); };
}

}  // namespace muster::k8s
