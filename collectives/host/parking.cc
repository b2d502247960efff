#include "collectives/host/parking.h"

#include <poll.h>

namespace muster::host {
namespace {

// A peer that waits for its welcome sends nothing, so whatever is readable is the end.
bool HungUp(int fd) {
  pollfd entry{.fd = fd, .events = POLLIN | POLLRDHUP};
  return ::poll(&entry, 1, 0) > 0;
}

}  // namespace

void Parking::Park(Connection connection, TimePoint now) {
  std::lock_guard lock(mutex_);
  const ConnectionKey& key = connection.key;
  std::erase_if(entries_, [&key](const Entry& entry) {
    const ConnectionKey& other = entry.connection.key;
    return other.generation == key.generation && other.from == key.from;
  });
  if (entries_.size() == kMaxParked) entries_.pop_front();
  entries_.push_back({std::move(connection), now});
  for (const Wakeup* watcher : watchers_) watcher->Signal();
}

std::optional<Connection> Parking::Claim(uint64_t generation, int rank) {
  std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const ConnectionKey& key = entry->connection.key;
    if (key.generation != generation || key.from != rank) continue;
    std::optional<Connection> connection;
    if (!HungUp(entry->connection.fd.get())) connection = std::move(entry->connection);
    entries_.erase(entry);
    return connection;
  }
  return std::nullopt;
}

void Parking::Expire(TimePoint now) {
  std::lock_guard lock(mutex_);
  while (!entries_.empty() && entries_.front().since + kParkingTime <= now) entries_.pop_front();
}

std::optional<TimePoint> Parking::NextExpiry() const {
  std::lock_guard lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  return entries_.front().since + kParkingTime;
}

void Parking::Watch(const Wakeup* wakeup) {
  std::lock_guard lock(mutex_);
  watchers_.push_back(wakeup);
}

void Parking::Unwatch(const Wakeup* wakeup) {
  std::lock_guard lock(mutex_);
  std::erase(watchers_, wakeup);
}

}  // namespace muster::host
