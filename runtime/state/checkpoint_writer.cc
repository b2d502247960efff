// CheckpointWriter (checkpoint.h): one thread, one buffer, at most one write at a time.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <optional>
#include <stop_token>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/base/low_priority.h"
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

  void Prepare(const State& state) {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kIdle || copy_) return;
    source_ = &state;
    Become(Phase::kPreparing);
  }

  bool Submit(const State& state) {
    MutexLock lock(mutex_);
    while (phase_ == Phase::kPreparing) changed_.wait(mutex_);
    if (phase_ != Phase::kIdle) return false;
    if (!copy_) copy_.emplace(state.tensors());
    source_ = &state;
    left_ = pages_ = state.pages();
    next_ = 0;  // last: it hands over the others
    Become(Phase::kCopying);
    return true;
  }

  void EndCopy() {
    CopyPages();
    MutexLock lock(mutex_);
    while (phase_ == Phase::kCopying) changed_.wait(mutex_);
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
  enum class Phase { kIdle, kPreparing, kCopying, kWriting };

  void Become(Phase phase) REQUIRES(mutex_) {
    phase_ = phase;
    changed_.notify_all();
  }

  void SetPhase(Phase phase) {
    MutexLock lock(mutex_);
    Become(phase);
  }

  // Some of the pages that are left, each by whoever comes first.
  void CopyPages() {
    for (size_t page = next_++; page < pages_; page = next_++) {
      std::ranges::copy(source_->page(page), copy_->page(page).begin());
      copy_->set_page_version(page, source_->page_version(page));
      if (--left_ == 0) SetPhase(Phase::kWriting);
    }
  }

  void Run(const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), "checkpoint");
    for (Phase phase; (phase = WaitForWork(stop)) != Phase::kIdle;) {
      if (phase == Phase::kPreparing) {
        RunAtLowPriority([this] { copy_.emplace(source_->tensors()); });
        SetPhase(Phase::kIdle);
      } else if (phase == Phase::kCopying) {
        EndCopy();
      } else {
        const Status status = WriteCheckpoint(directory_, *copy_, facts_, keep_);
        Record(status);
        if (on_done_) on_done_(copy_->step(), status);
        SetPhase(Phase::kIdle);
      }
    }
  }

  // kIdle when there will be no more work. What was submitted is written before that.
  Phase WaitForWork(const std::stop_token& stop) {
    MutexLock lock(mutex_);
    changed_.wait(mutex_, stop, [this]() REQUIRES(mutex_) { return phase_ != Phase::kIdle; });
    return phase_;
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
  std::optional<State> copy_;  // the thread's, but for pages while they are copied
  const State* source_ = nullptr;
  size_t pages_ = 0;
  std::atomic<size_t> next_ = 0;  // page to copy
  std::atomic<size_t> left_ = 0;  // pages not copied yet
  std::jthread thread_;           // last: it ends before anything that it uses
};

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, CheckpointFacts facts, int keep,
                                   std::function<void(uint64_t step, const Status&)> on_done)
    : impl_(std::make_unique<Impl>(std::move(directory), std::move(facts), keep,
                                   std::move(on_done))) {}
CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::Prepare(const State& state) { impl_->Prepare(state); }
bool CheckpointWriter::Submit(const State& state) { return impl_->Submit(state); }
void CheckpointWriter::EndCopy() { impl_->EndCopy(); }
Status CheckpointWriter::Flush(TimePoint deadline) { return impl_->Flush(deadline); }
uint64_t CheckpointWriter::failures() const { return impl_->failures(); }

}  // namespace muster
