// TestJob: what the gateway asks in tests: a job that remembers its orders.
//
// Threading: safe from any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launcher/gateway/gateway_source.h"
#include "runtime/base/thread_annotations.h"

namespace muster {

class TestText final : public TextStream {
 public:
  explicit TestText(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  Piece Next() override {
    if (at_ == pieces_.size()) return {"", true};
    return {pieces_[at_++], false};
  }

 private:
  const std::vector<std::string> pieces_;
  size_t at_ = 0;
};

class TestJob final : public GatewaySource {
 public:
  std::string StatusText() override { return R"({"name":"test","phase":"running"})"; }
  GatewayFigures Figures() override { return {7, 3, 4, 8, 4, 2, 1}; }

  EventPage EventsAfter(uint64_t after, size_t limit) override EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    EventPage page{{}, after, finished_};
    while (page.last < events_.size() && page.lines.size() < limit)
      page.lines.push_back(events_[page.last++]);
    return page;
  }

  Result<std::unique_ptr<TextStream>> OpenLog(const std::string& worker,
                                              std::optional<uint64_t> tail, bool follow) override {
    if (worker != "w-3")
      return WithHint(Err(Code::kNotFound, "no log of {} is here", worker), "look at its pod");
    return std::make_unique<TestText>(std::vector<std::string>{
        "one\n", tail ? "tail " + std::to_string(*tail) : "all", follow ? " follow" : ""});
  }

  void Resize(int min_workers, int max_workers, Done done) override {
    Answer("resize " + std::to_string(min_workers) + ":" + std::to_string(max_workers), done);
  }
  void Stop(bool now, const std::string& reason, Done done) override {
    Answer("stop " + std::string(now ? "now " : "") + reason, done);
  }

  Result<std::string> BundleText() override { return std::string(R"({"missing":["ab"]})"); }
  Result<std::string> PutChunk(const std::string& hash, const std::string& compressed) override
      EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (refusal_) return tl::unexpected(*refusal_);
    orders_.push_back("chunk " + hash + " of " + std::to_string(compressed.size()));
    return std::string(R"({"missing":0})");
  }

  void Emit(std::string line) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    events_.push_back(std::move(line));
  }
  void Finish(std::string line) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    finished_ = std::move(line);
  }
  // From now on the job does not answer.
  void FallSilent() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    silent_ = true;
  }
  void RefuseWith(Error error) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    refusal_ = std::move(error);
  }
  std::vector<std::string> orders() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return orders_;
  }
  std::vector<Done> TakeUnanswered() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return std::exchange(unanswered_, {});
  }

 private:
  void Answer(const std::string& order, const Done& done) EXCLUDES(mutex_) {
    std::optional<Error> refusal;
    {
      MutexLock lock(mutex_);
      orders_.push_back(order);
      if (silent_) return unanswered_.push_back(done);
      refusal = refusal_;
    }
    if (refusal) return done(tl::unexpected(*refusal));
    done(R"({"done":true})");
  }

  Mutex mutex_;
  std::vector<std::string> events_ GUARDED_BY(mutex_);
  std::optional<std::string> finished_ GUARDED_BY(mutex_);
  std::optional<Error> refusal_ GUARDED_BY(mutex_);
  bool silent_ GUARDED_BY(mutex_) = false;
  std::vector<std::string> orders_ GUARDED_BY(mutex_);
  std::vector<Done> unanswered_ GUARDED_BY(mutex_);
};

}  // namespace muster
