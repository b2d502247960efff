#include "launcher/rendezvous/watch_stream.h"

#include <iterator>

#include "launcher/rendezvous/status_json.h"

namespace muster {
namespace {

constexpr size_t kBatch = 64;  // events read at once

v1::JsonReply Reply(const std::string& json) {
  v1::JsonReply reply;
  reply.set_json(json);
  return reply;
}

}  // namespace

void WatchStream::SetProgress(const std::string& json) {
  {
    MutexLock lock(state_mutex_);
    progress_ = json;
  }
  Poke();
}

void WatchStream::SetFinished(const std::string& json) {
  {
    MutexLock lock(state_mutex_);
    finished_ = json;
  }
  Poke();
}

WatchStream::Step WatchStream::NextStep() {
  std::optional<std::string> finished;
  std::optional<std::string> progress;
  {
    MutexLock lock(state_mutex_);
    finished = finished_;  // looked at before the events: all of them came before it
    std::swap(progress, progress_);
  }
  if (finished_sent_) return {std::nullopt, grpc::Status::OK};
  const uint64_t end = control_.NextEvent();
  if (batch_.empty() && next_ < end) {
    std::vector<std::string> lines = control_.ReadEvents(next_, kBatch);
    next_ = lines.empty() ? end : EventSequence(lines.back()) + 1;
    batch_.assign(std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end()));
  }
  if (!batch_.empty()) {
    const std::string line = std::move(batch_.front());
    batch_.pop_front();
    return {Reply(line), std::nullopt};
  }
  if (finished) {
    finished_sent_ = true;
    return {Reply(*finished), std::nullopt};
  }
  if (progress) return {Reply(*progress), std::nullopt};
  return {};
}

}  // namespace muster
