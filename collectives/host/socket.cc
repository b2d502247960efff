#include "collectives/host/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/base/check.h"

namespace muster::host {
namespace {

Io FromErrno(int error) {
  if (error == EAGAIN || error == EWOULDBLOCK) return {.would_block = true};
  return {.closed = true, .error = std::strerror(error)};
}

msghdr MessageOf(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  return message;
}

// Room for one descriptor in a control message.
union ControlBuffer {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

// Takes the descriptors out of `message`, closing all but the last; returns how many there were.
size_t TakeDescriptors(msghdr& message, UniqueFd& last) {
  size_t count = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t descriptors = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < descriptors; ++i, ++count) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      last.reset(fd);
    }
  }
  return count;
}

}  // namespace

Io Send(int fd, std::span<const iovec> pieces, int fd_to_pass) {
  msghdr message = MessageOf(pieces);
  ControlBuffer control{};
  if (fd_to_pass >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd_to_pass, sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0 ? Io{.bytes = static_cast<size_t>(sent)} : FromErrno(errno);
}

Io Receive(int fd, std::span<const iovec> pieces, UniqueFd* passed) {
  msghdr message = MessageOf(pieces);
  ControlBuffer control{};
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  ssize_t got = 0;
  do {
    got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return FromErrno(errno);
  UniqueFd arrived;
  const size_t count = TakeDescriptors(message, arrived);
  const bool unexpected = count > 0 && passed != nullptr && *passed;
  if (count > 1 || unexpected || (message.msg_flags & MSG_CTRUNC) != 0) {
    return {.closed = true, .error = "more than one descriptor at a time"};
  }
  if (count == 1 && passed != nullptr) *passed = std::move(arrived);
  if (got == 0) return {.closed = true};
  return {.bytes = static_cast<size_t>(got)};
}

Result<Wakeup> Wakeup::Create() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return ErrnoError(errno, "eventfd");
  return Wakeup(std::move(fd));
}

void Wakeup::Signal() const {
  const uint64_t one = 1;
  // It can only fail when the counter is full, and then the other side wakes up anyway.
  [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof(one));
}

void Wakeup::Clear() const {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t read = ::read(fd_.get(), &count, sizeof(count));
}

Result<SocketAddress> TcpAddress(const std::string& ip, uint16_t port) {
  SocketAddress address;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET, ip.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&address.storage, &v4, sizeof(v4));
    address.length = sizeof(v4);
    return address;
  }
  if (::inet_pton(AF_INET6, ip.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&address.storage, &v6, sizeof(v6));
    address.length = sizeof(v6);
    return address;
  }
  return Err(Code::kInvalidArgument, "'{}' is not an IPv4 or IPv6 address", ip);
}

bool IsUnspecified(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET6) {
    return IN6_IS_ADDR_UNSPECIFIED(
        &reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr);
  }
  return reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr.s_addr == INADDR_ANY;
}

SocketAddress AbstractAddress(const std::string& name) {
  sockaddr_un local{};
  MUSTER_CHECK(name.size() < sizeof(local.sun_path), "abstract name of {} bytes", name.size());
  local.sun_family = AF_UNIX;
  std::memcpy(local.sun_path + 1, name.data(), name.size());
  SocketAddress address;
  std::memcpy(&address.storage, &local, sizeof(local));
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

Result<UniqueFd> Listen(const SocketAddress& address) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Err(Code::kUnavailable, "socket: {}", std::strerror(errno));
  if (::bind(fd.get(), address.get(), address.length) != 0) {
    return Err(Code::kUnavailable, "bind: {}", std::strerror(errno));
  }
  if (::listen(fd.get(), SOMAXCONN) != 0) {
    return Err(Code::kUnavailable, "listen: {}", std::strerror(errno));
  }
  return fd;
}

Result<UniqueFd> StartConnect(const SocketAddress& address) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Err(Code::kUnavailable, "socket: {}", std::strerror(errno));
  SetNoDelay(fd.get());
  const int connected = ::connect(fd.get(), address.get(), address.length);
  if (connected != 0 && errno != EINPROGRESS) {
    return Err(Code::kUnavailable, "connect: {}", std::strerror(errno));
  }
  return fd;
}

Result<UniqueFd> Accept(int listener) {
  UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
    return Err(Code::kResourceExhausted, "accept: {}", std::strerror(errno));
  }
  if (fd) SetNoDelay(fd.get());
  return fd;
}

Result<uint16_t> LocalPort(int fd) {
  SocketAddress address;
  address.length = sizeof(address.storage);
  if (::getsockname(fd, address.get(), &address.length) != 0) {
    return ErrnoError(errno, "getsockname");
  }
  if (address.storage.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

void SetNoDelay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool PeerIsSameUser(int fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::geteuid();
}

int PollTimeout(TimePoint deadline, TimePoint now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
}

void FillRandom(std::span<std::byte> out) {
  // Up to 256 bytes come whole and are not interrupted (getrandom(2)).
  MUSTER_CHECK(out.size() <= 256);
  MUSTER_CHECK(::getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()),
               "getrandom: {}", std::strerror(errno));
}

std::string ToHex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

}  // namespace muster::host
