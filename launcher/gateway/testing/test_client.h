// TestClient: speaks HTTP with the gateway byte by byte, so that it can be slow, rude and wrong.
//
// Threading: none. All reads wait for a minute at most.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <map>
#include <string>

#include "runtime/base/unique_fd.h"

namespace muster {

inline const std::string kTestSecret(64, 'a');

class TestClient {
 public:
  explicit TestClient(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{60, 0};  // for machines that are very busy
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }

  // Whether all of it could be sent. A test need not look: who reads notices a closed connection too.
  bool Send(const std::string& text) {
    return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  void Ask(const std::string& method, const std::string& target, const std::string& body = "",
           const std::string& secret = kTestSecret) {
    Send(method + " " + target + " HTTP/1.1\r\nHost: test\r\nX-Muster-Secret: " + secret +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  // The status and headers of the next answer; 0 if the connection ends first.
  int ReadHead() {
    headers.clear();
    const std::string first = ReadLine();
    for (std::string line = ReadLine(); !line.empty(); line = ReadLine()) {
      const size_t colon = line.find(": ");
      if (colon != line.npos) headers[line.substr(0, colon)] = line.substr(colon + 2);
    }
    return first.size() > 12 ? std::stoi(first.substr(9, 3)) : 0;
  }
  // The whole next answer.
  int ReadAnswer() {
    const int status = ReadHead();
    ReadBody();
    return status;
  }
  void ReadBody() {
    body = headers.contains("Content-Length") ? Take(std::stoul(headers["Content-Length"])) : "";
  }
  // The next piece of a stream; "" for its proper end, "cut" if the connection ended without one.
  std::string ReadChunk() {
    const std::string size = ReadLine();
    if (size.empty()) return "cut";
    std::string chunk = Take(std::stoul(size, nullptr, 16));
    ReadLine();
    return chunk;
  }
  // Whether the gateway closes the connection without another byte.
  bool ReadsNothingMore() { return waiting_.empty() && !Receive() && ended_; }
  // Whether something comes, or the end of the connection, within some milliseconds.
  bool HasNews(int milliseconds) {
    pollfd wait{fd_.get(), POLLIN, 0};
    return ::poll(&wait, 1, milliseconds) > 0;
  }
  void StopSending() { ::shutdown(fd_.get(), SHUT_WR); }

  std::map<std::string, std::string> headers;
  std::string body;

 private:
  bool Receive() {
    char buffer[4096];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got > 0) waiting_.append(buffer, static_cast<size_t>(got));
    ended_ = got == 0 || (got < 0 && errno != EAGAIN);  // EAGAIN: patience is at its end
    return got > 0;
  }
  std::string Take(size_t count) {
    while (waiting_.size() < count && Receive()) {
    }
    std::string taken = waiting_.substr(0, count);
    waiting_.erase(0, count);
    return taken;
  }
  std::string ReadLine() {
    size_t end = waiting_.find("\r\n");
    for (; end == waiting_.npos; end = waiting_.find("\r\n")) {
      if (!Receive()) return "";
    }
    std::string line = waiting_.substr(0, end);
    waiting_.erase(0, end + 2);
    return line;
  }

  UniqueFd fd_;
  std::string waiting_;
  bool ended_ = false;
};

}  // namespace muster
