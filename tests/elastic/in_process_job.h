// InProcessJob: a whole elastic job in one process: the real coordinator core, real sessions on threads, a transport of the
// test's choice, and deaths on demand. What only real processes can show (signals, agents, gRPC) is in tests/process.
//
// Threading: the test's thread drives; one thread a worker, one for time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "launcher/rendezvous/coordinator.h"
#include "runtime/train/session.h"

namespace muster {

struct JobSetup {
  TrainOptions options;
  CoordinatorOptions coordinator;
  Reduce reduce = Reduce::kExact;
  std::filesystem::path job_dir;
  std::filesystem::path checkpoint;
  uint64_t checkpoint_every = 0;
  bool resume = false;
  JoinMode join = JoinMode::kAuto;
  std::chrono::microseconds compute_time{
      0};  // of one micro-batch, so that faults hit the middle of steps
  // A backend for a new process of worker `id`.
  std::function<std::unique_ptr<Backend>(const std::string& id, uint64_t incarnation)> backend;
};

class InProcessJob {
 public:
  explicit InProcessJob(JobSetup setup);
  ~InProcessJob();

  void Start();
  // The worker dies at its next micro-batch; its agent notices and starts it again.
  void Kill(const std::string& worker);
  void Resize(int min_workers, int max_workers);
  void Stop();
  // A new coordinator takes over from what the old one had made durable.
  void RestartCoordinator();

  uint64_t step();
  std::vector<std::string> Members();
  bool WaitStep(uint64_t step, Duration timeout);
  // The end of the job, or nothing when it does not come in time.
  std::optional<FinishJob> WaitEnd(Duration timeout);
  std::vector<EmitEvent> events();

 private:
  class Line;
  struct Worker {
    std::jthread thread;
    uint64_t incarnation = 0;
    std::atomic<bool> killed{false};
    std::atomic<bool> ended{false};
  };
  void Post(const CoordinatorEvent& event);
  void Carry(std::vector<CoordinatorAction> actions);  // with mutex_ held
  void Spawn(const std::string& worker);               // with mutex_ held
  void RunWorker(const std::string& id, Worker& self);
  void TimeLoop(std::stop_token stop);

  const JobSetup setup_;
  std::recursive_mutex mutex_;
  std::condition_variable_any changed_;
  std::unique_ptr<Coordinator> coordinator_;
  std::optional<CoordinatorState> durable_;
  std::map<std::string, Line*> lines_;
  std::map<std::string, std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Worker>> graveyard_;
  std::vector<std::string> slots_;
  std::vector<EmitEvent> events_;
  std::optional<FinishJob> end_;
  uint64_t incarnations_ = 0;
  std::jthread time_;
};

// What the same program finds when it trains alone.
RunResult TrainAlone(const JobSetup& setup);

}  // namespace muster
