#include "launcher/platform/local/job_link.h"

#include <deque>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <variant>

#include "launcher/client/client.h"
#include "launcher/job/fields.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

struct EventFacts {
  uint64_t sequence = 0;  // 0: live, not stored
  bool last = false;      // nothing follows
};

EventFacts FactsOf(const std::string& text) {
  const auto event = nlohmann::json::parse(text, nullptr, false);
  return {FieldOr<uint64_t>(event, "sequence", 0),
          FieldOr<std::string>(event, "event", "") == "finished"};
}

}  // namespace

class JobLink::Impl {
 public:
  Impl(JobFolder folder, std::string job, std::string secret, std::function<void()> wake)
      : wake_(std::move(wake)),
        client_(std::move(folder), std::move(job), std::move(secret)),
        slots_thread_([this] { FollowSlots(); }),
        events_thread_([this] { FollowEvents(); }),
        requests_thread_([this] { SendRequests(); }) {}

  ~Impl() {
    for (Cancellation* cancellation : {&slots_call_, &events_call_, &requests_call_}) {
      cancellation->Cancel();
    }
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }

  std::optional<std::vector<std::string>> TakeSlots() {
    const std::lock_guard lock(mutex_);
    return std::exchange(slots_, std::nullopt);
  }

  std::vector<std::string> TakeEvents() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

  void Request(std::variant<v1::SlotReport, v1::StopRequest> request) {
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    changed_.notify_all();
  }

 private:
  void FollowSlots() {
    v1::SlotsRequest request;
    request.set_platform("local");
    Follow<v1::SlotsOrder>(
        client_, slots_call_,
        [&](Stub& stub, grpc::ClientContext* context) { return stub.WatchSlots(context, request); },
        [&](const v1::SlotsOrder& order) {
          {
            const std::lock_guard lock(mutex_);
            slots_.emplace(order.slots().begin(), order.slots().end());
          }
          wake_();
          return true;
        });
  }

  void FollowEvents() {
    uint64_t next = 1;
    Follow<v1::JsonReply>(
        client_, events_call_,
        [&](Stub& stub, grpc::ClientContext* context) {
          v1::EventsRequest request;
          request.set_from_sequence(next);
          return stub.WatchEvents(context, request);
        },
        [&](const v1::JsonReply& reply) {
          const EventFacts facts = FactsOf(reply.json());
          if (facts.sequence != 0 && facts.sequence < next) return true;  // seen before a reconnect
          if (facts.sequence != 0) next = facts.sequence + 1;
          {
            const std::lock_guard lock(mutex_);
            events_.push_back(reply.json());
          }
          wake_();
          return !facts.last;
        });
  }

  void SendRequests() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !requests_.empty(); });
      if (stopping_) return;
      const auto request = std::move(requests_.front());
      requests_.pop_front();
      lock.unlock();
      const Status taken =
          std::visit([this](const auto& message) { return Send(message); }, request);
      if (!taken && !requests_call_.cancelled()) {
        log::warn("request refused error=\"{}\"", taken.error().ToString());
      }
    }
  }

  Status Send(const v1::SlotReport& report) {
    return Call(client_, requests_call_, TimePoint::max(),
                [&](Stub& stub, grpc::ClientContext* context) {
                  v1::Ack ack;
                  return stub.ReportSlot(context, report, &ack);
                });
  }

  Status Send(const v1::StopRequest& request) {
    return Call(client_, requests_call_, TimePoint::max(),
                [&](Stub& stub, grpc::ClientContext* context) {
                  v1::JsonReply reply;
                  return stub.Stop(context, request, &reply);
                });
  }

  const std::function<void()> wake_;
  CoordinatorClient client_;
  Cancellation slots_call_;
  Cancellation events_call_;
  Cancellation requests_call_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::vector<std::string>> slots_;                       // guarded by mutex_
  std::vector<std::string> events_;                                     // guarded by mutex_
  std::deque<std::variant<v1::SlotReport, v1::StopRequest>> requests_;  // guarded by mutex_
  bool stopping_ = false;                                               // guarded by mutex_
  std::jthread slots_thread_;
  std::jthread events_thread_;
  std::jthread requests_thread_;
};

JobLink::JobLink(JobFolder folder, std::string job, std::string secret, std::function<void()> wake)
    : impl_(std::make_unique<Impl>(std::move(folder), std::move(job), std::move(secret),
                                   std::move(wake))) {}

JobLink::~JobLink() = default;

std::optional<std::vector<std::string>> JobLink::TakeSlots() { return impl_->TakeSlots(); }

std::vector<std::string> JobLink::TakeEvents() { return impl_->TakeEvents(); }

void JobLink::ReportSlot(const EndedSlot& slot) {
  v1::SlotReport report;
  report.set_slot(slot.slot);
  report.set_pid(slot.pid);
  report.set_exit_code(slot.exit_code);
  report.set_signal(slot.signal);
  impl_->Request(std::move(report));
}

void JobLink::RequestStop(const std::string& reason) {
  v1::StopRequest request;
  request.set_reason(reason);
  impl_->Request(std::move(request));
}

}  // namespace muster
