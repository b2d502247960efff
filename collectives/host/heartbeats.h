// Heartbeats: what the listener's thread does now and then for each communicator, so that its peers see the process alive while
// nothing else is sent.
//
// Threading: Start() and End() are safe from any thread, all else belongs to the listener's thread.
#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <optional>

#include "runtime/base/time.h"

namespace muster::host {

class Heartbeats {
 public:
  // Calls `beat` every `interval`, from now on.
  void Start(const void* of, Duration interval, std::function<void()> beat, TimePoint now);
  // Afterwards it is not called any more: waits for a call under way.
  void End(const void* of);

  // Makes the calls that are due.
  void Advance(TimePoint now);
  std::optional<TimePoint> NextDeadline() const;

 private:
  struct Entry {
    const void* of = nullptr;
    Duration interval{};
    std::function<void()> beat;
    TimePoint due{};
  };
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // guarded by mutex_
};

}  // namespace muster::host
