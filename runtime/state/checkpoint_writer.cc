// CheckpointWriter (checkpoint.h): one thread, one buffer, at most one write at a time.
#include <pthread.h>

#include <condition_variable>
#include <optional>
#include <stop_token>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/state/checkpoint.h"

namespace muster {

class CheckpointWriter::Impl {
 public:
  Impl(std::filesystem::path directory, CheckpointFacts facts, int keep,
       std::function<void(uint64_t step, const Status&)> on_done)
      : directory_(std::move(directory)),
        facts_(std::move(facts)),
        keep_(keep),
        on_done_(std::move(on_done)),
        thread_([this](std::stop_token stop) { Run(stop); }) {}

  bool Submit(const State& state) {
    {
      MutexLock lock(mutex_);
      if (phase_ != Phase::kIdle) return false;
      phase_ = Phase::kCopying;
    }
    // The copy may take long and needs no lock: in this phase the buffer is this caller's.
    if (copy_) {
      *copy_ = state;
    } else {
      copy_.emplace(state);
    }
    SetPhase(Phase::kWriting);
    return true;
  }

  Status Flush(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (phase_ != Phase::kIdle) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout &&
          phase_ != Phase::kIdle) {
        return Err(Code::kDeadlineExceeded, "a checkpoint is still being written into {}",
                   directory_.string());
      }
    }
    return last_;
  }

  uint64_t failures() const {
    MutexLock lock(mutex_);
    return failures_;
  }

 private:
  enum class Phase { kIdle, kCopying, kWriting };

  void SetPhase(Phase phase) {
    {
      MutexLock lock(mutex_);
      phase_ = phase;
    }
    changed_.notify_all();
  }

  void Run(const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), "checkpoint");
    while (WaitForWork(stop)) {
      const Status status = WriteCheckpoint(directory_, *copy_, facts_, keep_);
      Record(status);
      if (on_done_) on_done_(copy_->step(), status);
      SetPhase(Phase::kIdle);
    }
  }

  // False when there will be no more work. What was submitted is written before that.
  bool WaitForWork(const std::stop_token& stop) {
    MutexLock lock(mutex_);
    while (phase_ != Phase::kWriting) {
      if (stop.stop_requested()) return false;
      changed_.wait(mutex_, stop, [this]() REQUIRES(mutex_) { return phase_ == Phase::kWriting; });
    }
    return true;
  }

  void Record(const Status& status) {
    if (!status) {
      log::error("checkpoint step={} error=\"{}\"", copy_->step(), status.error().ToString());
    }
    MutexLock lock(mutex_);
    last_ = status;
    if (!status) ++failures_;
  }

  const std::filesystem::path directory_;
  const CheckpointFacts facts_;
  const int keep_;
  const std::function<void(uint64_t step, const Status&)> on_done_;

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  Phase phase_ GUARDED_BY(mutex_) = Phase::kIdle;
  Status last_ GUARDED_BY(mutex_);
  uint64_t failures_ GUARDED_BY(mutex_) = 0;
  std::optional<State> copy_;  // handed over by phase_: written by Submit, then read by the thread
  std::jthread thread_;        // last: it ends before anything that it uses
};

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, CheckpointFacts facts, int keep,
                                   std::function<void(uint64_t step, const Status&)> on_done)
    : impl_(std::make_unique<Impl>(std::move(directory), std::move(facts), keep,
                                   std::move(on_done))) {}
CheckpointWriter::~CheckpointWriter() = default;

bool CheckpointWriter::Submit(const State& state) { return impl_->Submit(state); }
Status CheckpointWriter::Flush(TimePoint deadline) { return impl_->Flush(deadline); }
uint64_t CheckpointWriter::failures() const { return impl_->failures(); }

}  // namespace muster
