#include "collectives/nccl/undertaker.h"

#include <future>
#include <utility>

#include "runtime/base/log.h"

namespace muster::nccl {

Undertaker::Undertaker(cuda::Device& device, Duration abort_timeout,
                       std::function<void(const std::string& why)> stuck)
    : device_(device),
      abort_timeout_(abort_timeout),
      stuck_(std::move(stuck)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

Undertaker::~Undertaker() {
  thread_.request_stop();
  thread_.join();
}

void Undertaker::Bury(std::unique_ptr<Ring> ring) {
  std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(ring));
  changed_.notify_all();
}

void Undertaker::End(std::unique_ptr<Ring> ring) {
  const std::shared_ptr<Ring> shared = std::move(ring);
  Work("aborting a communicator", [shared] { shared->Abort(); });
}

void Undertaker::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !waiting_.empty(); }) || !waiting_.empty()) {
    const std::shared_ptr<Ring> ring = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    // Half of the time for the others to come along, the other half to do without them.
    const TimePoint deadline = MonotonicNow() + abort_timeout_ / 2;
    Work("finishing a communicator", [ring, deadline] {
      ring->Finish([deadline]() -> Status {
        if (MonotonicNow() < deadline) return {};
        return Err(Code::kDeadlineExceeded, "not all ranks have finished");
      });
    });
    lock.lock();
  }
}

// On a thread that may be left behind, where it is stuck.
void Undertaker::Work(const std::string& what, const std::function<void()>& work) {
  auto ended = std::make_shared<std::promise<void>>();
  std::thread worker([&device = device_, work, ended] {
    (void)device.Use();
    work();
    ended->set_value();
  });
  if (ended->get_future().wait_for(abort_timeout_) == std::future_status::ready) {
    worker.join();
  } else {
    worker.detach();
    Stuck(what);
  }
}

void Undertaker::AwaitQuiet(cuda::Event event) {
  const Status quiet = device_.Await(event, "what was aborted", MonotonicNow() + abort_timeout_);
  if (!quiet && quiet.error().code == Code::kDeadlineExceeded) Stuck("ending what it has aborted");
}

void Undertaker::Stuck(const std::string& what) {
  const std::string why = fmt::format("NCCL has been {} for {:.1f} s and does not come back", what,
                                      Seconds(abort_timeout_));
  log::error("{}", why);
  if (stuck_) stuck_(why);
}

}  // namespace muster::nccl
