#include "k8s/client/informer.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>
#include <utility>

#include "k8s/client/json_fields.h"

namespace muster::k8s {
namespace {

using nlohmann::json;

// No wait is without an end; a Tick that comes too early does nothing.
constexpr Duration kLongestWait = std::chrono::minutes(1);

void WaitUntil(TimePoint until, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_until(lock, stop, until, [] { return false; });
}

}  // namespace

Informer::Informer(ApiClient* client, InformerOptions options, Handler handler)
    : client_(client),
      options_(std::move(options)),
      handler_(std::move(handler)),
      core_(options_.times, std::random_device{}()),
      thread_([this](std::stop_token stop) { Run(std::move(stop)); }) {}

Informer::~Informer() = default;

void Informer::Run(std::stop_token stop) {
  ::pthread_setname_np(::pthread_self(), "muster-informer");
  const std::stop_callback forward(stop, [this] {
    std::stop_source source;
    {
      MutexLock lock(mutex_);
      source = interrupt_;
    }
    source.request_stop();
  });
  while (!stop.stop_requested()) Step(stop);
  stream_.reset();
}

void Informer::ListAgain() {
  std::stop_source source;
  {
    MutexLock lock(mutex_);
    wanted_ = true;
    source = interrupt_;
  }
  source.request_stop();
}

std::stop_token Informer::Interrupt() {
  MutexLock lock(mutex_);
  return interrupt_.get_token();
}

bool Informer::IsWanted() {
  MutexLock lock(mutex_);
  return wanted_;
}

bool Informer::TakeWish(const std::stop_token& stop) {
  MutexLock lock(mutex_);
  if (!wanted_) return false;
  wanted_ = false;
  interrupt_ = {};
  // Whoever has asked us to end meanwhile has interrupted the old one.
  if (stop.stop_requested()) interrupt_.request_stop();
  return true;
}

void Informer::Step(const std::stop_token& stop) {
  const TimePoint now = MonotonicNow();
  if (TakeWish(stop)) return Act(core_.Handle(ListWanted{}, now), stop);
  const TimePoint until = std::min(std::max(core_.wake(), now), now + kLongestWait);
  if (stream_ == nullptr) {
    WaitUntil(until, Interrupt());
    return Act(core_.Handle(Tick{}, MonotonicNow()), stop);
  }
  const Result<std::string> bytes = stream_->Read(until);
  if (bytes && !bytes->empty()) return TakeEvents(*bytes, stop);
  if (!bytes && bytes.error().code == Code::kDeadlineExceeded) {
    return Act(core_.Handle(Tick{}, MonotonicNow()), stop);
  }
  stream_.reset();
  if (!bytes && bytes.error().code == Code::kCancelled && IsWanted()) return;
  WatchEnded ended;
  if (!bytes) {
    ended.error = bytes.error();
  } else if (!splitter_->AtBoundary()) {
    ended.error = Error{Code::kUnavailable, "it ended in the middle of an event", ""};
  }
  Act(core_.Handle(ended, MonotonicNow()), stop);
}

void Informer::TakeEvents(const std::string& bytes, const std::stop_token& stop) {
  splitter_->Feed(bytes);
  // Once the core has given this watch up, what else came from it counts for nothing; the next one has a splitter of its own.
  while (!stop.stop_requested() && stream_ != nullptr) {
    Result<std::optional<std::string>> text = splitter_->Next();
    if (text && !*text) break;
    Result<json> event = text ? FromText(**text, "watch") : tl::unexpected<Error>(text.error());
    if (event) {
      Act(core_.Handle(WatchEvent{std::move(*event)}, MonotonicNow()), stop);
    } else {
      stream_.reset();
      return Act(core_.Handle(WatchEnded{std::move(event.error())}, MonotonicNow()), stop);
    }
  }
  // Where events come without a pause, nothing else brings the time for another list.
  if (MonotonicNow() >= core_.wake()) Act(core_.Handle(Tick{}, MonotonicNow()), stop);
}

void Informer::Act(WatchOutput output, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (output.close_watch) stream_.reset();
    Tell(output);
    std::optional<WatchOutput> next;
    if (output.list) {
      next = List(stop);
    } else if (output.open_watch) {
      next = OpenWatch(*output.open_watch, stop);
    }
    if (!next) return;
    output = std::move(*next);
  }
}

void Informer::Tell(const WatchOutput& output) const {
  if (output.changes.empty() && !output.synced && output.note.empty()) return;
  handler_({.changes = output.changes,
            .synced = output.synced,
            .listed = output.listed,
            .asked = output.asked,
            .note = output.note});
}

WatchOutput Informer::List(const std::stop_token& stop) {
  Result<ObjectList> list =
      client_->List(options_.resource, options_.namespace_name,
                    {options_.label_selector, options_.field_selector, options_.page_size},
                    {.deadline = MonotonicNow() + options_.list_timeout, .stop = stop});
  const TimePoint now = MonotonicNow();
  (void)TakeWish(stop);  // this was it
  if (!list) return core_.Handle(ListFailed{std::move(list.error())}, now);
  return core_.Handle(ListDone{std::move(list->items), std::move(list->resource_version)}, now);
}

std::optional<WatchOutput> Informer::OpenWatch(const std::string& resource_version,
                                               const std::stop_token& stop) {
  Result<std::unique_ptr<HttpStream>> stream = client_->Watch(
      options_.resource, options_.namespace_name,
      {options_.label_selector, options_.field_selector, resource_version, options_.watch_timeout},
      {.deadline = MonotonicNow() + options_.open_timeout, .stop = Interrupt()});
  if (!stream && stream.error().code == Code::kCancelled && (IsWanted() || stop.stop_requested())) {
    return std::nullopt;  // the next step sees to it
  }
  if (!stream) return core_.Handle(WatchEnded{std::move(stream.error())}, MonotonicNow());
  stream_ = std::move(*stream);
  splitter_ = std::make_unique<JsonSplitter>();
  handler_({.watching = true});
  return std::nullopt;
}

}  // namespace muster::k8s
