// Gateway: what a client sends over HTTP. The input is the bytes of a connection; those of the secret are in the seeds.
//
// Beside the general promises: the connection is closed soon after the client has said all; whatever comes back begins as an answer of HTTP
// does; a refusal is a JSON object with its reason; and the next client is served.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "launcher/gateway/gateway.h"
#include "launcher/gateway/testing/test_job.h"
#include "runtime/base/unique_fd.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

constexpr int kPatience = 20;  // seconds
const std::string kSecret(64, 'a');

class Server {
 public:
  Server() {
    job_.Emit(R"({"sequence":1,"kind":"join"})");
    job_.Finish(R"({"event":"finished"})");
    GatewayOptions options;
    options.secret = kSecret;
    gateway_ = std::move(Gateway::Create(options, job_).value());
    gateway_->SetReady();
  }

  // All that comes back for `said`.
  std::string Ask(std::string_view said) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{kPatience, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(gateway_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // libFuzzer's alarm interrupts, too.
    int connected = 0;
    do {
      connected = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    } while (connected != 0 && (errno == EINTR || errno == EALREADY));
    MUSTER_CHECK(connected == 0 || errno == EISCONN, "{}", std::strerror(errno));
    // A gateway that has heard enough may close before all is said.
    (void)::send(fd.get(), said.data(), said.size(), MSG_NOSIGNAL);
    ::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    ssize_t got = 0;
    do {
      got = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (got > 0) answer.append(buffer, static_cast<size_t>(got));
    } while (got > 0 || (got < 0 && errno == EINTR));
    MUSTER_CHECK(got == 0 || errno == ECONNRESET, "the connection stays open: {}",
                 std::strerror(errno));
    return answer;
  }

 private:
  TestJob job_;
  std::unique_ptr<Gateway> gateway_;
};

Server& TheServer() {
  static Server server;
  return server;
}

void CheckAnswer(std::string_view answer) {
  if (answer.empty()) return;  // half a request
  MUSTER_CHECK(answer.starts_with("HTTP/1.1 ") && answer.size() > 12, "{}", answer);
  const std::string_view status = answer.substr(9, 3);
  if (status[0] == '2') return;
  const size_t end = answer.find("\r\n\r\n");
  MUSTER_CHECK(end != answer.npos && (status[0] == '4' || status[0] == '5'), "{}", answer);
  const std::string_view rest = answer.substr(end + 4);
  const auto body = nlohmann::json::parse(rest.substr(0, rest.find('\n')), nullptr, false);
  MUSTER_CHECK(body.is_object() && !body.value("error", "").empty() && body.contains("code"), "{}",
               answer);
}

std::string Request(const std::string& line, const std::string& body = "") {
  return line + " HTTP/1.1\r\nHost: job\r\nX-Muster-Secret: " + kSecret +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

std::vector<Seed> Seeds() {
  const std::string chunked = "POST /v1/stop HTTP/1.1\r\nX-Muster-Secret: " + kSecret +
                              "\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "d\r\n{\"now\":false}\r\n0\r\n\r\n";
  return {
      {"status", Request("GET /v1/status") + Request("GET /metrics")},
      {"resize", Request("POST /v1/resize", R"({"min":2,"max":8})")},
      {"stop", Request("POST /v1/stop", R"({"now":true,"reason":"enough"})")},
      {"events", Request("GET /v1/events?after=0&follow=1")},
      {"logs", Request("GET /v1/logs?worker=w%2D3&tail=5") + Request("GET /v1/logs?worker=w-9")},
      {"chunk", Request("POST /v1/chunk?hash=00ff", "some bytes")},
      {"chunked", chunked},
      {"probes", "GET /healthz HTTP/1.1\r\n\r\nGET /readyz HTTP/1.0\r\n\r\n"},
      {"nobody", "GET /v1/bundle HTTP/1.1\r\nX-Muster-Secret: wrong\r\n\r\n"}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster::fuzz;
  CheckAnswer(TheServer().Ask({reinterpret_cast<const char*>(data), size}));
  const std::string probe = TheServer().Ask("GET /healthz HTTP/1.1\r\n\r\n");
  MUSTER_CHECK(probe.starts_with("HTTP/1.1 200 "), "the next client gets {}", probe);
  return 0;
}
