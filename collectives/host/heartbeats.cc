#include "collectives/host/heartbeats.h"

#include <algorithm>
#include <utility>

namespace muster::host {

void Heartbeats::Start(const void* of, Duration interval, std::function<void()> beat,
                       TimePoint now) {
  std::lock_guard lock(mutex_);
  entries_.push_back({of, interval, std::move(beat), now});
}

void Heartbeats::End(const void* of) {
  std::lock_guard lock(mutex_);
  std::erase_if(entries_, [of](const Entry& entry) { return entry.of == of; });
}

void Heartbeats::Advance(TimePoint now) {
  std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (now < entry.due) continue;
    entry.beat();
    entry.due = now + entry.interval;
  }
}

std::optional<TimePoint> Heartbeats::NextDeadline() const {
  std::lock_guard lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  return std::ranges::min_element(entries_, {}, &Entry::due)->due;
}

}  // namespace muster::host
