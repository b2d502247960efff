// Retirement: connections of communicators that are gone, kept until their peer has read the last bytes.
//
// Closing a TCP socket with unread input resets it, and a reset destroys what the peer has not received yet: the end of a
// result, or the revocation that names the real culprit. So the last bytes are sent, the direction is shut down, and input is
// thrown away until the peer closes too or kRetirementTime is over.
//
// Threading: Add() is safe from any thread, all else belongs to the listener's thread.
#pragma once

#include <poll.h>

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "collectives/host/socket.h"
#include "runtime/base/time.h"
#include "runtime/base/unique_fd.h"

namespace muster::host {

struct RetiredConnection {
  UniqueFd fd;
  std::string last_words;  // still to be sent
};

class Retirement {
 public:
  static constexpr size_t kMaxRetired = 1024;
  static constexpr Duration kRetirementTime = std::chrono::seconds(2);

  void Add(RetiredConnection connection, TimePoint now);

  // Sends, reads and closes what can be without blocking.
  void Advance(TimePoint now);

  void AppendTo(std::vector<pollfd>& poll_set) const;
  std::optional<TimePoint> NextDeadline() const;

 private:
  struct Entry {
    RetiredConnection connection;
    TimePoint deadline;
  };
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;  // guarded by mutex_; oldest first
};

// Sends as much of `last_words` as passes now, and shuts the direction down when all has passed. False if the connection is
// broken.
bool SendLastWords(RetiredConnection& connection);

}  // namespace muster::host
