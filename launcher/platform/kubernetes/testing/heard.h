// Heard: a FleetListener for tests that remembers what it was told.
//
// Threading: safe from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "launcher/platform/kubernetes/fleet_shell.h"

namespace muster::kubernetes {

struct Story {
  bool offered = false;  // once at least
  std::vector<std::string> slots;
  std::map<std::string, std::string> leaving;
  std::vector<std::string> lost;   // "SLOT EXIT_CODE SIGNAL REASON"
  std::vector<std::string> notes;  // "KIND: MESSAGE"
  std::vector<std::string> ends;   // "fail CODE: MESSAGE", "fenced: REASON"

  int Notes(const std::string& begin) const {
    int count = 0;
    for (const std::string& note : notes) count += note.starts_with(begin) ? 1 : 0;
    return count;
  }
};

class Heard final : public FleetListener {
 public:
  void Offer(const std::vector<std::string>& slots,
             const std::map<std::string, std::string>& leaving) override {
    MutexLock lock(mutex_);
    story_.offered = true;
    story_.slots = slots;
    story_.leaving = leaving;
    changed_.notify_all();
  }
  void Lost(const std::string& slot, int exit_code, int signal,
            const std::string& reason) override {
    Add(&Story::lost, fmt::format("{} {} {} {}", slot, exit_code, signal, reason));
  }
  void Note(const std::string& kind, const std::string& message) override {
    Add(&Story::notes, kind + ": " + message);
  }
  void Fail(int exit_code, const std::string& message) override {
    Add(&Story::ends, fmt::format("fail {}: {}", exit_code, message));
  }
  void Fenced(const std::string& reason) override { Add(&Story::ends, "fenced: " + reason); }

  Story story() {
    MutexLock lock(mutex_);
    return story_;
  }
  // Waits until `holds`, a minute at most; then as it is.
  Story Await(const std::function<bool(const Story&)>& holds,
              Duration longest = std::chrono::seconds(60)) {
    MutexLock lock(mutex_);
    changed_.wait_for(mutex_, longest, [&]() REQUIRES(mutex_) { return holds(story_); });
    return story_;
  }

 private:
  void Add(std::vector<std::string> Story::*list, std::string text) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    (story_.*list).push_back(std::move(text));
    changed_.notify_all();
  }

  Mutex mutex_;
  std::condition_variable_any changed_;
  Story story_ GUARDED_BY(mutex_);
};

}  // namespace muster::kubernetes
