#include "runtime/rpc/coordinator_link.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "runtime/base/backoff.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/thread_annotations.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr BackoffPolicy kBackoff{std::chrono::milliseconds(20), std::chrono::milliseconds(500)};
constexpr size_t kMaxAddressFileBytes = 64 << 10;

Result<std::string> ReadCoordinatorAddress(const std::filesystem::path& job_folder) {
  const std::filesystem::path path = job_folder / "coordinator.json";
  MUSTER_ASSIGN(const std::string text, ReadFile(path, kMaxAddressFileBytes));
  const auto object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("address") || !object["address"].is_string()) {
    return Err(Code::kInvalidArgument, "{} does not name the coordinator's address", path.string());
  }
  return object["address"].get<std::string>();
}

// Repeating such a report cannot help; any other error may be a coordinator that is away, or a port that is somebody else's
// until it is back.
bool RefusedForGood(Code code) {
  return code == Code::kFailedPrecondition || code == Code::kInvalidArgument ||
         code == Code::kResourceExhausted;
}

bool SameNotice(const Report& a, const Report& b) {
  return a.kind == Report::Kind::kNotice && b.kind == Report::Kind::kNotice &&
         a.notice_kind == b.notice_kind && a.message == b.message;
}

}  // namespace

class CoordinatorLink::Impl {
 public:
  explicit Impl(CoordinatorLinkOptions options)
      : options_(std::move(options)),
        order_thread_([this] { OrderLoop(); }),
        report_thread_([this] { ReportLoop(); }) {}

  ~Impl() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      if (stream_context_ != nullptr) stream_context_->TryCancel();
      if (report_context_ != nullptr) report_context_->TryCancel();
    }
    changed_.notify_all();
  }

  void Report(const muster::Report& report) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      if (report.kind == Report::Kind::kProgress) {
        progress_ = report;
      } else {
        if (queue_.size() >= kMaxQueuedReports) MakeRoom(report);
        queue_.push_back({next_id_++, report});
      }
    }
    changed_.notify_all();
  }

  void SetProgressSource(std::function<muster::Report()> source, Duration period) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      source_ = std::move(source);
      period_ = period;
      next_heartbeat_ = MonotonicNow();
    }
    changed_.notify_all();
  }

  void Reconnect() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      reconnect_ = true;
      if (stream_context_ != nullptr) stream_context_->TryCancel();
    }
    changed_.notify_all();
  }

  Status Flush(TimePoint deadline) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t end = next_id_;
    const auto left = [&]() REQUIRES(mutex_) {
      return std::count_if(queue_.begin(), queue_.end(),
                           [&](const Queued& queued) { return queued.id < end; });
    };
    while (left() > 0) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout && left() > 0) {
        return Err(Code::kDeadlineExceeded,
                   "the coordinator has not taken {} of the reports of this worker", left());
      }
    }
    return {};
  }

  bool connected() const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return connected_;
  }

 private:
  using Stub = v1::Rendezvous::Stub;
  struct Queued {
    uint64_t id = 0;
    muster::Report report;
  };
  enum class Origin { kRepeat, kQueue, kProgress, kSource };
  struct Outgoing {
    Origin origin = Origin::kQueue;
    uint64_t id = 0;  // kQueue
    muster::Report report;
    std::function<muster::Report()> source;  // kSource: asked without the lock
  };

  // --- Orders ---

  void OrderLoop() EXCLUDES(mutex_) {
    int failures = 0;
    while (true) {
      failures = RunStream() ? 0 : failures + 1;
      MutexLock lock(mutex_);
      connected_ = false;
      const TimePoint retry_at = MonotonicNow() + kBackoff.Delay(failures);
      while (!stopping_ && !ended_ && !reconnect_) {
        if (changed_.wait_until(mutex_, retry_at) == std::cv_status::timeout) break;
      }
      reconnect_ = false;
      if (stopping_ || ended_) return;
    }
  }

  // One registration, from reading the address to the end of the stream. Returns whether the coordinator had accepted it.
  bool RunStream() EXCLUDES(mutex_) {
    const Result<std::string> address = ReadCoordinatorAddress(options_.job_folder);
    if (!address) {
      log::debug("coordinator=unknown reason=\"{}\"", address.error().message);
      return false;
    }
    // A new channel each time: it makes one attempt to connect, without a backoff of its own.
    std::shared_ptr<Stub> stub = v1::Rendezvous::NewStub(OpenChannel(*address));
    grpc::ClientContext context;
    Authenticate(context, options_.job, options_.secret);
    if (!Publish(&context)) return false;
    // Asked after the context is known: a Reconnect() from here on cancels this registration.
    const std::unique_ptr<grpc::ClientReader<v1::Order>> reader =
        stub->Join(&context, ToProto(options_.hello()));
    reader->WaitForInitialMetadata();
    const bool accepted = context.GetServerInitialMetadata().contains(kAcceptedMetadata);
    if (accepted) OnAccepted(*address, std::move(stub));
    v1::Order message;
    while (reader->Read(&message)) Deliver(message);
    const grpc::Status status = reader->Finish();
    Withdraw();
    OnEnded(accepted, status);
    return accepted;
  }

  bool Publish(grpc::ClientContext* context) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (stopping_) return false;
    stream_context_ = context;
    return true;
  }

  void Withdraw() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    stream_context_ = nullptr;
    connected_ = false;
    stub_.reset();
  }

  void OnAccepted(const std::string& address, std::shared_ptr<Stub> stub) EXCLUDES(mutex_) {
    log::info("coordinator={} state=registered", address);
    {
      MutexLock lock(mutex_);
      connected_ = true;
      stub_ = std::move(stub);
      repeat_ = finished_;
      next_heartbeat_ = MonotonicNow();
    }
    changed_.notify_all();
  }

  void Deliver(const v1::Order& message) {
    const Result<Order> order = FromProto(message);
    if (order) {
      if (order->kind == Order::Kind::kRelease) End();
      options_.on_order(*order);
    } else {
      log::error("order=refused reason=\"{}\"", order.error().message);
    }
  }

  void OnEnded(bool accepted, const grpc::Status& status) EXCLUDES(mutex_) {
    const Error error = FromGrpc(status);
    if (error.code == Code::kFailedPrecondition) {
      log::warn("coordinator=refused reason=\"{}\"", error.message);
      End();
      options_.on_order(Order{Order::Kind::kRelease, {}, false, error.message});
    } else if (accepted) {
      log::info("coordinator=lost reason=\"{}\"", error.message);
    } else {
      log::debug("coordinator=unreachable reason=\"{}\"", error.message);
    }
  }

  // This worker is released, or a newer process has its id: nobody waits for what it has to say.
  void End() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      ended_ = true;
      queue_.clear();
      progress_.reset();
    }
    changed_.notify_all();
  }

  // --- Reports ---

  void ReportLoop() EXCLUDES(mutex_) {
    int failures = 0;
    TimePoint not_before{};
    while (std::optional<Outgoing> next = NextReport(not_before)) {
      if (next->source) next->report = next->source();
      const std::optional<Error> error = Send(next->report);
      const bool again = error && !RefusedForGood(error->code);
      if (error && !again) log::error("report=dropped reason=\"{}\"", error->message);
      if (!again) Settle(*next, !error);
      failures = again ? failures + 1 : 0;
      not_before = again ? MonotonicNow() + kBackoff.Delay(failures - 1) : TimePoint{};
    }
  }

  // Waits for the next report to send; nothing when the link ends.
  std::optional<Outgoing> NextReport(TimePoint not_before) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (!stopping_) {
      const TimePoint now = MonotonicNow();
      if (!connected_) {
        changed_.wait(mutex_);
      } else if (now < not_before) {
        changed_.wait_until(mutex_, not_before);
      } else if (std::optional<Outgoing> next = TakeNext(now)) {
        return next;
      } else if (source_) {
        changed_.wait_until(mutex_, next_heartbeat_);
      } else {
        changed_.wait(mutex_);
      }
    }
    return std::nullopt;
  }

  std::optional<Outgoing> TakeNext(TimePoint now) REQUIRES(mutex_) {
    if (repeat_) return Outgoing{Origin::kRepeat, 0, *repeat_, {}};
    if (!queue_.empty()) {
      in_flight_ = queue_.front().id;
      return Outgoing{Origin::kQueue, queue_.front().id, queue_.front().report, {}};
    }
    if (progress_) {
      Outgoing outgoing{Origin::kProgress, 0, std::move(*progress_), {}};
      progress_.reset();
      return outgoing;
    }
    if (!source_ || now < next_heartbeat_) return std::nullopt;
    next_heartbeat_ = now + period_;
    return Outgoing{Origin::kSource, 0, {}, source_};
  }

  // One call; nothing if the coordinator has taken it.
  std::optional<Error> Send(const muster::Report& report) EXCLUDES(mutex_) {
    grpc::ClientContext context;
    Authenticate(context, options_.job, options_.secret);
    SetDeadline(context, MonotonicNow() + kCallTimeout);
    std::shared_ptr<Stub> stub;
    {
      MutexLock lock(mutex_);
      if (stopping_ || !stub_) return Error{Code::kUnavailable, "the coordinator is away", ""};
      stub = stub_;
      report_context_ = &context;
    }
    v1::Ack ack;
    const grpc::Status status = stub->Report(&context, ToProto(report), &ack);
    MutexLock lock(mutex_);
    report_context_ = nullptr;
    if (status.ok()) return std::nullopt;
    return FromGrpc(status);
  }

  void Settle(const Outgoing& sent, bool taken) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (sent.origin == Origin::kRepeat) repeat_.reset();
      if (sent.origin == Origin::kQueue && !queue_.empty() && queue_.front().id == sent.id)
        queue_.pop_front();
      if (taken && sent.report.kind == Report::Kind::kFinished) finished_ = sent.report;
      in_flight_ = 0;
    }
    changed_.notify_all();
  }

  void MakeRoom(const muster::Report& newcomer) REQUIRES(mutex_) {
    const auto first = queue_.begin() + (queue_.front().id == in_flight_ ? 1 : 0);
    auto victim = std::find_if(first, queue_.end(), [&](const Queued& queued) {
      return SameNotice(queued.report, newcomer);
    });
    if (victim == queue_.end()) {
      victim = std::find_if(first, queue_.end(), [](const Queued& queued) {
        return queued.report.kind == Report::Kind::kNotice;
      });
    }
    queue_.erase(victim == queue_.end() ? first : victim);
  }

  const CoordinatorLinkOptions options_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool connected_ GUARDED_BY(mutex_) = false;
  bool reconnect_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::shared_ptr<Stub> stub_ GUARDED_BY(mutex_);  // of the accepted registration
  grpc::ClientContext* stream_context_ GUARDED_BY(mutex_) = nullptr;  // of the call that is running
  grpc::ClientContext* report_context_ GUARDED_BY(mutex_) = nullptr;
  std::deque<Queued> queue_ GUARDED_BY(mutex_);
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  uint64_t in_flight_ GUARDED_BY(mutex_) = 0;  // id of the queued report that is being sent
  std::optional<muster::Report> progress_ GUARDED_BY(mutex_);
  std::optional<muster::Report> finished_ GUARDED_BY(mutex_);  // taken by some coordinator
  std::optional<muster::Report> repeat_ GUARDED_BY(mutex_);
  std::function<muster::Report()> source_ GUARDED_BY(mutex_);
  Duration period_ GUARDED_BY(mutex_){};
  TimePoint next_heartbeat_ GUARDED_BY(mutex_){};
  // Last, so that they are joined before anything they use goes.
  std::jthread order_thread_;
  std::jthread report_thread_;
};

CoordinatorLink::CoordinatorLink(CoordinatorLinkOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
CoordinatorLink::~CoordinatorLink() = default;
void CoordinatorLink::Report(const muster::Report& report) { impl_->Report(report); }
void CoordinatorLink::SetProgressSource(std::function<muster::Report()> source, Duration period) {
  impl_->SetProgressSource(std::move(source), period);
}
void CoordinatorLink::Reconnect() { impl_->Reconnect(); }
Status CoordinatorLink::Flush(TimePoint deadline) { return impl_->Flush(deadline); }
bool CoordinatorLink::connected() const { return impl_->connected(); }

}  // namespace muster
