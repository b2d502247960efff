// Parking: authenticated connections that wait until Connect() of their generation claims them. A peer may have got its
// order earlier than we did.
//
// Threading: safe from any thread.
// Limits: kMaxParked connections, the oldest makes room; each expires after kParkingTime (its peer then connects again).
#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <vector>

#include "collectives/host/handshake.h"
#include "runtime/base/time.h"

namespace muster::host {

class Parking {
 public:
  static constexpr size_t kMaxParked = 1024;
  static constexpr Duration kParkingTime = std::chrono::seconds(30);

  // Keeps `connection`. The newest one of the same generation and rank replaces an older one: its peer has tried again.
  void Park(Connection connection, TimePoint now);

  // Takes the connection of `rank` for `generation`, if it is there and its peer has not hung up.
  std::optional<Connection> Claim(uint64_t generation, int rank);

  void Expire(TimePoint now);
  std::optional<TimePoint> NextExpiry() const;

  // From now on every Park() signals `wakeup`, until Unwatch.
  void Watch(const Wakeup* wakeup);
  void Unwatch(const Wakeup* wakeup);

 private:
  struct Entry {
    Connection connection;
    TimePoint since;
  };
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::list<Entry> entries_;  // oldest first
  std::vector<const Wakeup*> watchers_;
};

}  // namespace muster::host
