// CoordinatorLink: a worker's line to its coordinator, kept open for ever: orders come in, reports go out.
//
// The coordinator may die and come back, also on another port; the link reads coordinator.json again, registers again with a
// fresh Hello and goes on. Reports other than kProgress wait in a queue meanwhile. A restarted coordinator has forgotten what
// it was told, so after each registration the link repeats the kFinished report that had been taken; the receiver takes it
// twice without harm. (What else it must know again is in the Hello.)
//
// Threading: all methods are safe from any thread, and do not block except Flush. The Hello provider, the order handler and
// the progress source are called from the link's own threads, one at a time each, never under its lock; they may call
// Report and Reconnect, and must not destroy the link.
// Ownership: what the functions capture must outlive the link.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/time.h"
#include "runtime/core/protocol.h"

namespace muster {

struct CoordinatorLinkOptions {
  std::filesystem::path job_folder;  // holds coordinator.json: {"address": "127.0.0.1:PORT", ...}
  std::string job;                   // job id, fences messages of another run
  std::string secret;                // of the job, hex
  // What this worker is now; asked before each registration.
  std::function<Hello()> hello;
  // One call an order, in the order they were sent. Also called with a kRelease of the link's own when the coordinator
  // says that a newer process has taken over this worker's id. After a kRelease the link is at its end: it never registers
  // again, so that no coordinator counts on a worker that is leaving.
  std::function<void(const Order&)> on_order;
};

class CoordinatorLink {
 public:
  static constexpr size_t kMaxQueuedReports = 1'000;
  static constexpr Duration kCallTimeout = std::chrono::seconds(2);

  // Starts connecting at once, in the background.
  explicit CoordinatorLink(CoordinatorLinkOptions options);

  // Cuts the line at once; what is still queued is lost (Flush first). Waits for a handler that is running.
  ~CoordinatorLink();
  CoordinatorLink(const CoordinatorLink&) = delete;
  CoordinatorLink& operator=(const CoordinatorLink&) = delete;

  // Hands over a report; it goes out when the coordinator is there. kProgress: the newest replaces one not yet sent and is
  // never repeated. The others are repeated in order until taken; one that the coordinator refuses for good (fenced, out of
  // range) is logged and dropped. When kMaxQueuedReports wait, the oldest kNotice makes room, an identical one first; if there
  // is none, the oldest report does.
  void Report(const muster::Report& report);

  // Calls `source` every `period` while connected and sends what it returns: the heartbeat.
  void SetProgressSource(std::function<muster::Report()> source,
                         Duration period = std::chrono::milliseconds(100));

  // Ends the present registration and makes a new one with a fresh Hello at once. After kRejoin.
  void Reconnect();

  // Blocks until all reports handed over so far (kProgress aside) are taken or dropped.
  // Errors: kDeadlineExceeded, with the number that is left.
  Status Flush(TimePoint deadline);

  // Whether the coordinator has accepted the present registration.
  bool connected() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
