#include "launcher/agent/agent_link.h"

#include <unistd.h>

#include <deque>
#include <optional>
#include <thread>

#include "launcher/client/client.h"
#include "runtime/base/log.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr std::chrono::milliseconds kHeartbeat{500};

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::optional<SlotOrder> FromProto(const v1::AgentOrder& order) {
  switch (order.kind()) {
    case v1::AgentOrder::RESTART_WORKER:
      return SlotOrder{SlotOrder::Kind::kRestartWorker, order.reason()};
    case v1::AgentOrder::SHUT_DOWN:
      return SlotOrder{SlotOrder::Kind::kShutDown, order.reason()};
    case v1::AgentOrder::SHUT_DOWN_NOW:
      return SlotOrder{SlotOrder::Kind::kShutDownNow, order.reason()};
    default:
      return std::nullopt;  // of a newer coordinator
  }
}

v1::AgentReport ToProto(const std::string& slot, const SlotWorkerReport& report) {
  v1::AgentReport message;
  message.set_kind(report.kind == SlotWorkerReport::Kind::kStarted
                       ? v1::AgentReport::WORKER_STARTED
                       : v1::AgentReport::WORKER_EXITED);
  message.set_agent(slot);
  message.set_incarnation(report.incarnation);
  message.set_worker_pid(report.pid);
  message.set_exit_code(report.exit_code);
  message.set_signal(report.signal);
  message.set_last_output(CleanText(report.last_output));
  message.set_error(CleanText(report.error));
  return message;
}

}  // namespace

class AgentLink::Impl {
 public:
  Impl(JobFolder folder, std::string job, std::string secret, std::string slot,
       std::string shares_at, std::function<void()> on_order)
      : slot_(std::move(slot)),
        shares_at_(std::move(shares_at)),
        on_order_(std::move(on_order)),
        client_(std::move(folder), std::move(job), std::move(secret)),
        orders_thread_([this] { FollowOrders(); }),
        reports_thread_([this] { SendReports(); }) {}

  ~Impl() {
    orders_cancellation_.Cancel();
    reports_cancellation_.Cancel();
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }

  void Report(const SlotWorkerReport& report) {
    const std::lock_guard lock(mutex_);
    reports_.push_back(ToProto(slot_, report));
    reports_.back().set_shares_at(shares_at_);
    worker_ = reports_.back();
    changed_.notify_all();
  }

  std::vector<SlotOrder> TakeOrders() {
    const std::lock_guard lock(mutex_);
    return std::exchange(orders_, {});
  }

 private:
  void FollowOrders() {
    v1::AgentHello hello;
    hello.set_agent(slot_);
    hello.set_pid(::getpid());
    hello.set_host(HostName());
    Follow<v1::AgentOrder>(
        client_, orders_cancellation_,
        [&](Stub& stub, grpc::ClientContext* context) { return stub.Attach(context, hello); },
        [&](const v1::AgentOrder& message) {
          if (const auto order = FromProto(message)) {
            const std::lock_guard lock(mutex_);
            orders_.push_back(*order);
          }
          on_order_();
          return true;
        });
  }

  // The oldest report that has not been taken; a heartbeat if there is none for a while; nothing at the end.
  std::optional<v1::AgentReport> NextReport() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kHeartbeat, [&] { return stopping_ || !reports_.empty(); });
    if (stopping_) return std::nullopt;
    if (!reports_.empty()) return reports_.front();
    v1::AgentReport alive;
    alive.set_kind(v1::AgentReport::ALIVE);
    alive.set_agent(slot_);
    alive.set_shares_at(shares_at_);
    alive.set_incarnation(worker_.incarnation());
    alive.set_worker_pid(worker_.kind() == v1::AgentReport::WORKER_STARTED ? worker_.worker_pid()
                                                                           : 0);
    return alive;
  }

  void SendReports() {
    while (const auto report = NextReport()) {
      const bool heartbeat = report->kind() == v1::AgentReport::ALIVE;
      v1::Ack ack;
      // A heartbeat that nobody hears is dropped; a report waits for as long as it takes.
      const TimePoint deadline = heartbeat ? MonotonicNow() + kHeartbeat : TimePoint::max();
      const Status taken = Call(client_, reports_cancellation_, deadline,
                                [&](Stub& stub, grpc::ClientContext* context) {
                                  return stub.ReportAgent(context, *report, &ack);
                                });
      if (!taken && !heartbeat && !reports_cancellation_.cancelled()) {
        log::warn("report refused error=\"{}\"", taken.error().ToString());
      }
      if (heartbeat) continue;
      const std::lock_guard lock(mutex_);
      reports_.pop_front();
    }
  }

  const std::string slot_;
  const std::string shares_at_;
  const std::function<void()> on_order_;
  CoordinatorClient client_;
  Cancellation orders_cancellation_;
  Cancellation reports_cancellation_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::AgentReport> reports_;  // guarded by mutex_
  v1::AgentReport worker_;               // guarded by mutex_: the latest
  std::vector<SlotOrder> orders_;        // guarded by mutex_
  bool stopping_ = false;                // guarded by mutex_
  std::jthread orders_thread_;
  std::jthread reports_thread_;
};

AgentLink::AgentLink(JobFolder folder, std::string job, std::string secret, std::string slot,
                     std::string shares_at, std::function<void()> on_order)
    : impl_(std::make_unique<Impl>(std::move(folder), std::move(job), std::move(secret),
                                   std::move(slot), std::move(shares_at), std::move(on_order))) {}

AgentLink::~AgentLink() = default;

void AgentLink::Report(const SlotWorkerReport& report) { impl_->Report(report); }

std::vector<SlotOrder> AgentLink::TakeOrders() { return impl_->TakeOrders(); }

}  // namespace muster
