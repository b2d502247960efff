#include "launcher/platform/kubernetes/saved_writer.h"

#include <pthread.h>

#include <utility>

#include "launcher/platform/kubernetes/fleet_json.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/backoff.h"

namespace muster::kubernetes {
namespace {

constexpr BackoffPolicy kPause{.first = std::chrono::milliseconds(200),
                               .cap = std::chrono::seconds(5)};

}  // namespace

SavedWriter::SavedWriter(RunRecord& record, Duration attempt_timeout, Told told)
    : record_(record),
      attempt_timeout_(attempt_timeout),
      told_(std::move(told)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

SavedWriter::~SavedWriter() = default;

void SavedWriter::Write(fleet::FleetSaved saved, uint64_t number) {
  MutexLock lock(mutex_);
  wish_ = Wish{std::move(saved), number};
  arrived_.notify_one();
}

void SavedWriter::Run(const std::stop_token& stop) {
  ::pthread_setname_np(::pthread_self(), "muster-saved");
  int failures = 0;
  while (!stop.stop_requested()) {
    Wish wish;
    {
      MutexLock lock(mutex_);
      arrived_.wait(mutex_, stop, [this]() REQUIRES(mutex_) { return wish_.has_value(); });
      if (!wish_) return;
      wish = *wish_;
    }
    const Status written = record_.Put({{std::string(kFleetKey), ToJson(wish.saved)}},
                                       MonotonicNow() + attempt_timeout_, stop);
    if (stop.stop_requested()) return;
    told_(wish.number, written);
    if (!record_.Ours()) return;
    failures = written ? 0 : failures + 1;
    MutexLock lock(mutex_);
    if (written && wish_->number == wish.number) wish_.reset();
    // Something newer does not make the server well.
    if (!written) {
      arrived_.wait_for(mutex_, stop, kPause.Delay(failures - 1), [] { return false; });
    }
  }
}

}  // namespace muster::kubernetes
