// Sockets without blocking and without signals: the few system calls that the host transport is made of.
//
// Threading: free functions; a Wakeup may be signalled from any thread.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/base/unique_fd.h"

namespace muster::host {

// What one non-blocking transfer came to. At most one of `would_block` and `closed` is set, and then `bytes` is 0.
struct Io {
  size_t bytes = 0;
  bool would_block = false;
  bool closed =
      false;  // end of stream, reset, or any other error: nothing more passes in this direction
  std::string error;  // the system's reason, empty at a plain end of stream
};

// Sends from `pieces`; `fd_to_pass`, unless negative, travels with the first byte (Unix sockets only).
Io Send(int fd, std::span<const iovec> pieces, int fd_to_pass = -1);

// Receives into `pieces`. A descriptor that arrived is put into `passed`, closed if `passed` is null; more than one at a
// time counts as an error, ours never do that.
Io Receive(int fd, std::span<const iovec> pieces, UniqueFd* passed);

// An eventfd by which one thread ends the poll() of another.
class Wakeup {
 public:
  static Result<Wakeup> Create();
  int fd() const { return fd_.get(); }
  void Signal() const;
  void Clear() const;

 private:
  explicit Wakeup(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// A socket address of either family, by value.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// Errors: kInvalidArgument if `ip` is not an IPv4 or IPv6 address.
Result<SocketAddress> TcpAddress(const std::string& ip, uint16_t port);
// 0.0.0.0 or ::, which can be listened on but not connected to.
bool IsUnspecified(const SocketAddress& address);
// A name in the abstract namespace: it belongs to the network namespace, and no file is left behind.
SocketAddress AbstractAddress(const std::string& name);

// A listening, non-blocking socket. Errors: kUnavailable.
Result<UniqueFd> Listen(const SocketAddress& address);
// A socket that connects in the background: writable when connected, its first transfer fails if that failed. Errors:
// kUnavailable, if it failed at once.
Result<UniqueFd> StartConnect(const SocketAddress& address);
// The next connection waiting at `listener`, non-blocking; an invalid descriptor if there is none.
// Errors: kResourceExhausted (no descriptor is free).
Result<UniqueFd> Accept(int listener);
Result<uint16_t> LocalPort(int fd);
// Sends small messages at once; no effect on Unix sockets.
void SetNoDelay(int fd);
// True if the other end of a Unix socket belongs to the user that we run as.
bool PeerIsSameUser(int fd);

// poll()'s timeout until `deadline`, rounded up to a millisecond and never negative.
int PollTimeout(TimePoint deadline, TimePoint now);

// Random bytes from the kernel.
void FillRandom(std::span<std::byte> out);
std::string ToHex(std::span<const std::byte> bytes);

}  // namespace muster::host
