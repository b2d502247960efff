// PumpStream: a server stream of gRPC's callback API that is fed from outside: whoever has something new pokes it, and it asks
// NextStep() for as long as there is something to send. One write is under way at a time.
//
// Threading: Open, Poke and Abort are safe from any thread and do not block; NextStep is called by one thread at a time, with no
// lock held. Ownership: a stream keeps itself alive until gRPC is done with it; others hold shared pointers.
// This header brings in gRPC; include it from .cc files only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/base/thread_annotations.h"

namespace muster {

template <typename Message>
class PumpStream : public grpc::ServerWriteReactor<Message> {
 public:
  // A message to write, or the end of the call, or neither: nothing for now.
  struct Step {
    std::optional<Message> message;
    std::optional<grpc::Status> end;
  };

  // Accepts the call: sends the initial metadata, then what NextStep gives. `on_done` is called once, when the call is over.
  // `self` is a shared pointer to this stream.
  void Open(std::shared_ptr<PumpStream> self, std::function<void()> on_done) EXCLUDES(mutex_) {
    self_ = std::move(self);
    on_done_ = std::move(on_done);
    this->StartSendInitialMetadata();  // busy_ from the start: nothing is written before this is done
  }

  // There may be something to send.
  void Poke() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      poked_ = true;
      if (busy_) return;
      busy_ = true;
    }
    Pump();
  }

  // Ends the call as soon as the write under way is done; what else waits is dropped.
  void Abort(const grpc::Status& status) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (!aborted_) aborted_ = status;
    }
    Poke();
  }

  void OnSendInitialMetadataDone(bool ok) final { OnWriteDone(ok); }
  void OnWriteDone(bool ok) final {
    if (!ok) {
      MutexLock lock(mutex_);
      if (!aborted_) aborted_ = grpc::Status::CANCELLED;
    }
    Pump();
  }
  void OnCancel() final { Abort(grpc::Status::CANCELLED); }
  void OnDone() final {
    const std::shared_ptr<PumpStream> self = std::move(self_);
    if (on_done_) on_done_();
  }

 protected:
  virtual Step NextStep() = 0;

 private:
  // Called by whoever has set busy_; it stays set while a write is under way, and for ever after the end.
  void Pump() EXCLUDES(mutex_) {
    while (true) {
      std::optional<grpc::Status> end;
      {
        MutexLock lock(mutex_);
        poked_ = false;
        end = aborted_;
      }
      Step step = end ? Step{std::nullopt, end} : NextStep();
      if (step.end) return this->Finish(*step.end);
      if (step.message) {
        current_ = std::move(*step.message);
        return this->StartWrite(&current_);
      }
      MutexLock lock(mutex_);
      if (!poked_) {
        busy_ = false;
        return;
      }
    }
  }

  Mutex mutex_;
  bool busy_ GUARDED_BY(mutex_) = true;
  bool poked_ GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> aborted_ GUARDED_BY(mutex_);
  Message current_;  // belongs to the write under way
  std::shared_ptr<PumpStream> self_;
  std::function<void()> on_done_;
};

// A stream of messages that are pushed, at most `limit` of them waiting.
template <typename Message>
class QueueStream final : public PumpStream<Message> {
 public:
  explicit QueueStream(size_t limit) : limit_(limit) {}

  // A reader that is `limit` messages behind is cut off (RESOURCE_EXHAUSTED); it may call again.
  void Push(Message message) EXCLUDES(queue_mutex_) {
    bool full = false;
    {
      MutexLock lock(queue_mutex_);
      full = queue_.size() >= limit_;
      if (!full) queue_.push_back(std::move(message));
    }
    if (full)
      return this->Abort(
          {grpc::StatusCode::RESOURCE_EXHAUSTED, "the stream is read too slowly; call again"});
    this->Poke();
  }

 private:
  using Step = typename PumpStream<Message>::Step;
  Step NextStep() override EXCLUDES(queue_mutex_) {
    MutexLock lock(queue_mutex_);
    Step step;
    if (!queue_.empty()) {
      step.message = std::move(queue_.front());
      queue_.pop_front();
    }
    return step;
  }

  const size_t limit_;
  Mutex queue_mutex_;
  std::deque<Message> queue_ GUARDED_BY(queue_mutex_);
};

// A stream of the versions of one thing, of which a reader needs the newest only: when it can write, it asks for that.
template <typename Message>
class LatestStream final : public PumpStream<Message> {
 public:
  using Step = typename PumpStream<Message>::Step;
  // The version after number `sent`, which is then raised, or the end.
  using Source = std::function<Step(uint64_t& sent)>;
  explicit LatestStream(Source source) : source_(std::move(source)) {}

 private:
  Step NextStep() override { return source_(sent_); }

  const Source source_;
  uint64_t sent_ = 0;
};

// A call that is refused at once.
template <typename Message>
class RefusedStream final : public grpc::ServerWriteReactor<Message> {
 public:
  explicit RefusedStream(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace muster
