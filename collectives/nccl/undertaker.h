// Undertaker: ends rings, which may take long, or for ever.
//
// A ring that has been used to its end is finished on a thread of its own, since all ranks of a machine must take part in that. One that
// broke is aborted while its user waits, since what was queued may still write into memory; if NCCL does not come back from that in
// time, nothing but the end of the process will help, and `stuck` is called.
//
// Threading: safe from any thread. Ownership: the device outlives it; its destructor waits for what is being ended, with a deadline.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "collectives/nccl/ring.h"

namespace muster::nccl {

class Undertaker {
 public:
  Undertaker(cuda::Device& device, Duration abort_timeout,
             std::function<void(const std::string& why)> stuck);
  ~Undertaker();

  // Finishes `ring` some time, or aborts it if the other ranks do not come along.
  void Bury(std::unique_ptr<Ring> ring);

  // Aborts `ring`, and returns when it has ended.
  void End(std::unique_ptr<Ring> ring);
  // Returns when what was queued before `event` does nothing any more: it is done, or the device has failed.
  void AwaitQuiet(cuda::Event event);

 private:
  void Run(const std::stop_token& stop);
  void Work(const std::string& what, const std::function<void()>& work);
  void Stuck(const std::string& what);

  cuda::Device& device_;
  const Duration abort_timeout_;
  const std::function<void(const std::string& why)> stuck_;

  std::mutex mutex_;  // guards waiting_
  std::condition_variable_any changed_;
  std::deque<std::unique_ptr<Ring>> waiting_;

  std::jthread thread_;
};

}  // namespace muster::nccl
