// AgentLink: the agent's line to the coordinator: orders come in, reports go out, the coordinator may come and go meanwhile.
//
// Threading: Report() and TakeOrders() are safe from any thread and do not block. Two threads of its own wait for the
// coordinator, with backoff and for as long as it takes; `on_order` is called from one of them and may only wake somebody.
// Ownership: what `on_order` captures must outlive the link.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/job/job.h"

namespace muster {

struct SlotOrder {
  enum class Kind { kRestartWorker, kShutDown, kShutDownNow };
  Kind kind = Kind::kShutDown;
  std::string reason;
};

// What happened to the slot's worker.
struct SlotWorkerReport {
  enum class Kind { kStarted, kExited };
  Kind kind = Kind::kStarted;
  uint64_t incarnation = 0;
  int64_t pid = 0;
  int exit_code = 0;        // kExited: -1 after a signal
  int signal = 0;           // kExited
  std::string last_output;  // kExited
  std::string error;        // kExited: why it could not be started
};

class AgentLink {
 public:
  // `shares_at`: AgentPlace's, part of each report.
  AgentLink(JobFolder folder, std::string job, std::string secret, std::string slot,
            std::string shares_at, std::function<void()> on_order);
  ~AgentLink();  // cancels what is under way; returns within milliseconds
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;

  // Repeated until the coordinator has taken it; in order.
  void Report(const SlotWorkerReport& report);

  // The orders that have come since the last call.
  std::vector<SlotOrder> TakeOrders();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
