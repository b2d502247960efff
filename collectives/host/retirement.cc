#include "collectives/host/retirement.h"

#include <array>

namespace muster::host {
namespace {

// Throws input away; false when the peer has closed.
bool DiscardInput(int fd) {
  std::array<std::byte, 16384> trash;
  const iovec piece{trash.data(), trash.size()};
  while (true) {
    const Io io = Receive(fd, {&piece, 1}, nullptr);
    if (io.would_block) return true;
    if (io.closed) return false;
  }
}

}  // namespace

bool SendLastWords(RetiredConnection& connection) {
  std::string& rest = connection.last_words;
  while (!rest.empty()) {
    const iovec piece{rest.data(), rest.size()};
    const Io io = Send(connection.fd.get(), {&piece, 1});
    if (io.would_block) return true;
    if (io.closed) return false;
    rest.erase(0, io.bytes);
  }
  ::shutdown(connection.fd.get(), SHUT_WR);
  return true;
}

void Retirement::Add(RetiredConnection connection, TimePoint now) {
  std::lock_guard lock(mutex_);
  if (entries_.size() == kMaxRetired) entries_.erase(entries_.begin());
  entries_.push_back({std::move(connection), now + kRetirementTime});
}

void Retirement::Advance(TimePoint now) {
  std::lock_guard lock(mutex_);
  std::erase_if(entries_, [now](Entry& entry) {
    return entry.deadline <= now ||
           (!entry.connection.last_words.empty() && !SendLastWords(entry.connection)) ||
           !DiscardInput(entry.connection.fd.get());
  });
}

void Retirement::AppendTo(std::vector<pollfd>& poll_set) const {
  std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    const short events =
        static_cast<short>(POLLIN | (entry.connection.last_words.empty() ? 0 : POLLOUT));
    poll_set.push_back({.fd = entry.connection.fd.get(), .events = events});
  }
}

std::optional<TimePoint> Retirement::NextDeadline() const {
  std::lock_guard lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  return entries_.front().deadline;
}

}  // namespace muster::host
