#include "launcher/rendezvous/service.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/bundle/bundle_hub.h"
#include "launcher/rendezvous/call.h"
#include "launcher/rendezvous/pump_stream.h"
#include "launcher/rendezvous/watch_stream.h"
#include "launcher/rendezvous/wire.h"
#include "runtime/base/endpoint.h"
#include "runtime/base/log.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

using OrderStream = QueueStream<v1::Order>;
using AgentStream = QueueStream<v1::AgentOrder>;
using SlotsStream = LatestStream<v1::SlotsOrder>;

constexpr size_t kMaxBufferBytes = 256 << 20;  // of all connections together
constexpr std::chrono::milliseconds kShutdownGrace{100};

}  // namespace

class RendezvousService::Impl final : public v1::Rendezvous::CallbackService {
 public:
  Impl(const ServiceOptions& options, JobControl& control) : options_(options), control_(control) {
    for (const auto& [worker, incarnation] : options.incarnations)
      workers_[worker].newest = incarnation;
  }

  Status Listen() {
    std::vector<int> ports{options_.port};
    if (options_.or_any_port) ports.push_back(0);
    for (const int port : ports) {
      server_ = Start(port);
      if (server_ && port_ != 0) return {};
      server_.reset();
    }
    return Err(Code::kUnavailable, "cannot listen on {} port {}{}", options_.address, options_.port,
               options_.or_any_port ? ", nor on any other" : "");
  }

  int port() const { return port_; }

  // --- Calls of workers ---

  grpc::ServerWriteReactor<v1::Order>* Join(grpc::CallbackServerContext* context,
                                            const v1::Hello* request) override {
    const Status caller = CheckCaller(*context);
    if (!caller) return Refuse<v1::Order>(caller.error());
    const Result<Hello> hello = FromProto(*request);
    if (!hello) return Refuse<v1::Order>(hello.error());
    const auto stream = std::make_shared<OrderStream>(kMaxQueuedOrders);
    const Status registered = Register(*hello, stream);
    if (!registered) return Refuse<v1::Order>(registered.error());
    const std::string worker = hello->worker;
    const uint64_t incarnation = hello->incarnation;
    // Two calls of one worker may be handled at the same time; only the one that has the stream speaks for it.
    control_.Submit(WorkerHello{*hello}, {},
                    [this, worker, raw = stream.get()] { return StreamOf(worker) == raw; });
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    stream->Open(stream, [this, worker, incarnation, raw = stream.get()] {
      WorkerGone(worker, incarnation, raw);
    });
    return stream.get();
  }

  grpc::ServerUnaryReactor* Report(grpc::CallbackServerContext* context,
                                   const v1::WorkerReport* request, v1::Ack*) override {
    const Status caller = CheckCaller(*context);
    if (!caller) return Answer(context, caller);
    Result<muster::Report> report = FromProto(*request);
    if (!report) return Answer(context, tl::unexpected(report.error()));
    const Status fence = CheckFence(report->worker, report->incarnation);
    if (!fence) return Answer(context, fence);
    return Submit(context, WorkerReported{std::move(*report)});
  }

  // --- Calls of agents and of the platform ---

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest*, v1::JsonReply* reply) override {
    const Status caller = CheckCaller(*context);
    if (caller) reply->set_json(options_.job_text);
    return Answer(context, caller);
  }

  grpc::ServerWriteReactor<v1::AgentOrder>* Attach(grpc::CallbackServerContext* context,
                                                   const v1::AgentHello* request) override {
    Status accepted = CheckCaller(*context);
    if (accepted) accepted = CheckId("agent", request->agent());
    if (!accepted) return Refuse<v1::AgentOrder>(accepted.error());
    const std::string& slot = request->agent();
    const auto stream = std::make_shared<AgentStream>(kMaxQueuedOrders);
    accepted = RegisterAgent(slot, stream);
    if (!accepted) return Refuse<v1::AgentOrder>(accepted.error());
    control_.Submit(AgentAttached{slot}, {}, {});
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    stream->Open(stream, [this, slot, raw = stream.get()] {
      MutexLock lock(mutex_);
      const auto found = agents_.find(slot);
      if (found != agents_.end() && found->second.get() == raw) agents_.erase(found);
      changed_.notify_all();
    });
    return stream.get();
  }

  grpc::ServerUnaryReactor* ReportAgent(grpc::CallbackServerContext* context,
                                        const v1::AgentReport* request, v1::Ack*) override {
    const Status caller = CheckCaller(*context);
    if (!caller) return Answer(context, caller);
    Result<CoordinatorEvent> event = ToEvent(*request);
    if (!event) return Answer(context, tl::unexpected(event.error()));
    if (const auto* started = std::get_if<WorkerStarted>(&*event))
      RaiseFence(started->slot, started->incarnation);
    if (options_.bundle != nullptr && !request->shares_at().empty())
      options_.bundle->Hold(request->agent(), request->shares_at());
    return Submit(context, std::move(*event));
  }

  grpc::ServerWriteReactor<v1::SlotsOrder>* WatchSlots(grpc::CallbackServerContext* context,
                                                       const v1::SlotsRequest*) override {
    const auto stream =
        std::make_shared<SlotsStream>([this](uint64_t& sent) { return NextSlots(sent); });
    const Status accepted = AddWatcher(*context, slot_watchers_, stream);
    if (!accepted) return Refuse<v1::SlotsOrder>(accepted.error());
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    stream->Open(stream, [this, raw = stream.get()] { Forget(slot_watchers_, raw); });
    return stream.get();
  }

  grpc::ServerUnaryReactor* ReportSlot(grpc::CallbackServerContext* context,
                                       const v1::SlotReport* request, v1::Ack*) override {
    Status accepted = CheckCaller(*context);
    if (accepted) accepted = CheckId("slot", request->slot());
    if (accepted) accepted = CheckExit(request->exit_code(), request->signal());
    if (!accepted) return Answer(context, accepted);
    return Submit(context, SlotExited{request->slot(), request->exit_code(), request->signal()});
  }

  // --- Calls of operators ---

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::StatusRequest*, v1::JsonReply* reply) override {
    const Status caller = CheckCaller(*context);
    if (caller) reply->set_json(control_.StatusText());
    return Answer(context, caller);
  }

  grpc::ServerWriteReactor<v1::JsonReply>* WatchEvents(grpc::CallbackServerContext* context,
                                                       const v1::EventsRequest* request) override {
    const auto stream = std::make_shared<WatchStream>(control_, request->from_sequence());
    const Status accepted = AddWatcher(*context, event_watchers_, stream);
    if (!accepted) return Refuse<v1::JsonReply>(accepted.error());
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    stream->Open(stream, [this, raw = stream.get()] { Forget(event_watchers_, raw); });
    TellFinished(*stream);
    return stream.get();
  }

  grpc::ServerUnaryReactor* Resize(grpc::CallbackServerContext* context,
                                   const v1::ResizeRequest* request,
                                   v1::JsonReply* reply) override {
    Status accepted = CheckCaller(*context);
    if (accepted) accepted = control_.CheckResize(request->min_workers(), request->max_workers());
    if (!accepted) return Answer(context, accepted);
    reply->set_json(nlohmann::ordered_json{{"min_workers", request->min_workers()},
                                           {"max_workers", request->max_workers()}}
                        .dump());
    return Submit(context, ResizeRequested{request->min_workers(), request->max_workers()});
  }

  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const v1::StopRequest* request, v1::JsonReply* reply) override {
    Status accepted = CheckCaller(*context);
    if (accepted) accepted = CheckText("reason", request->reason());
    if (!accepted) return Answer(context, accepted);
    reply->set_json(nlohmann::ordered_json{{"stopping", true}, {"now", request->now()}}.dump());
    return Submit(context, StopRequested{request->now(), request->reason()});
  }

  // --- What goes out ---

  void Send(const SendOrder& order) EXCLUDES(mutex_) {
    std::shared_ptr<OrderStream> stream;
    {
      MutexLock lock(mutex_);
      const auto found = workers_.find(order.worker);
      if (found != workers_.end() && found->second.joined == order.incarnation)
        stream = found->second.stream;
    }
    if (stream) stream->Push(ToProto(order.order));
  }

  void Send(const SendAgent& order) EXCLUDES(mutex_) {
    std::shared_ptr<AgentStream> stream;
    {
      MutexLock lock(mutex_);
      const auto found = agents_.find(order.slot);
      if (found != agents_.end()) stream = found->second;
    }
    if (stream) stream->Push(ToProto(order));
  }

  void Send(const SetSlots& slots) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      slots_ = slots;
      ++slots_version_;
    }
    for (const auto& stream : Copy(slot_watchers_)) stream->Poke();
  }

  void EventsChanged() {
    for (const auto& stream : Copy(event_watchers_)) stream->Poke();
  }

  void Progress(const std::string& json) {
    for (const auto& stream : Copy(event_watchers_)) stream->SetProgress(json);
  }

  void Finished(const std::string& json) EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      finished_ = json;
    }
    for (const auto& stream : Copy(event_watchers_)) TellFinished(*stream);
    for (const auto& stream : Copy(slot_watchers_)) stream->Poke();
  }

  bool WaitUntilQuiet(TimePoint deadline) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (StreamsOpen()) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) return !StreamsOpen();
    }
    return true;
  }

  void Shutdown() {
    if (!server_) return;
    AbortStreams();
    server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
    server_->Wait();
    server_.reset();
  }

 private:
  struct Worker {
    uint64_t newest = 0;  // incarnation; older ones are fenced
    uint64_t joined = 0;  // incarnation that has said hello to this coordinator
    bool has_joined = false;
    std::shared_ptr<OrderStream> stream;  // open; of `joined`
  };
  template <typename Stream>
  using Watchers = std::set<std::shared_ptr<Stream>>;

  std::unique_ptr<grpc::Server> Start(int port) {
    grpc::ServerBuilder builder;
    PrepareServer(builder, "rendezvous", kMaxBufferBytes);
    builder.AddListeningPort(JoinHostPort(options_.address, port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    if (options_.bundle != nullptr) builder.RegisterService(&options_.bundle->service());
    return builder.BuildAndStart();
  }

  Status CheckCaller(const grpc::CallbackServerContext& context) const {
    return muster::CheckCaller(context, options_.job, options_.secret);
  }

  // Hands an event over and answers the call when it has been carried out.
  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context, CoordinatorEvent event) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    control_.Submit(std::move(event),
                    [reactor](const Status& status) {
                      reactor->Finish(status ? grpc::Status::OK : ToGrpc(status.error()));
                    },
                    {});
    return reactor;
  }

  static Error Fenced(const std::string& worker, uint64_t incarnation, uint64_t newest) {
    return Error{Code::kFailedPrecondition,
                 fmt::format("process {} of {} has been replaced by process {}", incarnation,
                             worker, newest),
                 ""};
  }

  Status Register(const Hello& hello, const std::shared_ptr<OrderStream>& stream) EXCLUDES(mutex_) {
    std::shared_ptr<OrderStream> former;
    {
      MutexLock lock(mutex_);
      if (workers_.size() >= kMaxWorkers) ForgetDeparted();
      if (!workers_.contains(hello.worker) && workers_.size() >= kMaxWorkers) {
        return Err(Code::kResourceExhausted, "{} workers are known, there is no place for {}",
                   kMaxWorkers, hello.worker);
      }
      Worker& worker = workers_[hello.worker];
      if (hello.incarnation < worker.newest) {
        return tl::unexpected(Fenced(hello.worker, hello.incarnation, worker.newest));
      }
      worker.newest = worker.joined = hello.incarnation;
      worker.has_joined = true;
      former = std::exchange(worker.stream, stream);
    }
    if (former) former->Abort({grpc::StatusCode::ABORTED, "the worker has opened a newer stream"});
    return {};
  }

  // On a platform that names its slots anew each time.
  void ForgetDeparted() REQUIRES(mutex_) {
    const std::set<std::string> slots(slots_.slots.begin(), slots_.slots.end());
    std::erase_if(workers_, [&](const auto& entry) {
      return entry.second.stream == nullptr && !slots.contains(entry.first);
    });
  }

  Status RegisterAgent(const std::string& slot, const std::shared_ptr<AgentStream>& stream)
      EXCLUDES(mutex_) {
    std::shared_ptr<AgentStream> former;
    {
      MutexLock lock(mutex_);
      if (!agents_.contains(slot) && agents_.size() >= kMaxWorkers) {
        return Err(Code::kResourceExhausted, "{} agents are attached, there is no place for {}",
                   kMaxWorkers, slot);
      }
      former = std::exchange(agents_[slot], stream);
    }
    if (former) former->Abort({grpc::StatusCode::ABORTED, "the agent has opened a newer stream"});
    return {};
  }

  Status CheckFence(const std::string& id, uint64_t incarnation) const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = workers_.find(id);
    if (found != workers_.end() && incarnation < found->second.newest) {
      return tl::unexpected(Fenced(id, incarnation, found->second.newest));
    }
    if (found != workers_.end() && found->second.has_joined && found->second.joined == incarnation)
      return {};
    return Err(Code::kUnavailable, "process {} of {} has not joined this coordinator yet",
               incarnation, id);
  }

  void RaiseFence(const std::string& id, uint64_t incarnation) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = workers_.find(id);
    if (found != workers_.end()) {
      found->second.newest = std::max(found->second.newest, incarnation);
    } else if (workers_.size() < kMaxWorkers) {
      workers_[id].newest = incarnation;
    }
  }

  const OrderStream* StreamOf(const std::string& id) const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = workers_.find(id);
    return found == workers_.end() ? nullptr : found->second.stream.get();
  }

  void WorkerGone(const std::string& id, uint64_t incarnation, const OrderStream* stream)
      EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      Worker& worker = workers_[id];
      if (worker.stream.get() != stream) return;
      worker.stream.reset();
    }
    changed_.notify_all();
    control_.Submit(WorkerStreamLost{id, incarnation}, {},
                    [this, id] { return StreamOf(id) == nullptr; });
  }

  template <typename Stream>
  Status AddWatcher(const grpc::CallbackServerContext& context, Watchers<Stream>& watchers,
                    const std::shared_ptr<Stream>& stream) EXCLUDES(mutex_) {
    MUSTER_TRY(CheckCaller(context));
    MutexLock lock(mutex_);
    if (watchers.size() >= kMaxWatchers)
      return Err(Code::kResourceExhausted, "{} streams of this kind are open", kMaxWatchers);
    watchers.insert(stream);
    return {};
  }

  template <typename Stream>
  void Forget(Watchers<Stream>& watchers, const Stream* stream) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    std::erase_if(watchers,
                  [&](const std::shared_ptr<Stream>& each) { return each.get() == stream; });
    changed_.notify_all();
  }

  template <typename Stream>
  std::vector<std::shared_ptr<Stream>> Copy(const Watchers<Stream>& watchers) const
      EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return {watchers.begin(), watchers.end()};
  }

  SlotsStream::Step NextSlots(uint64_t& sent) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    SlotsStream::Step step;
    if (sent < slots_version_) {
      sent = slots_version_;
      step.message = ToProto(slots_);
    } else if (finished_ && sent > 0 && slots_.slots.empty()) {
      step.end = grpc::Status::OK;
    }
    return step;
  }

  void TellFinished(WatchStream& stream) EXCLUDES(mutex_) {
    std::optional<std::string> finished;
    {
      MutexLock lock(mutex_);
      finished = finished_;
    }
    if (finished) stream.SetFinished(*finished);
  }

  // Sooner than the server's own deadline would.
  void AbortStreams() EXCLUDES(mutex_) {
    const grpc::Status leaving(grpc::StatusCode::UNAVAILABLE, "the coordinator is going away");
    std::vector<std::shared_ptr<OrderStream>> orders;
    std::vector<std::shared_ptr<AgentStream>> agents;
    {
      MutexLock lock(mutex_);
      for (const auto& [id, worker] : workers_) {
        if (worker.stream) orders.push_back(worker.stream);
      }
      for (const auto& [slot, stream] : agents_) agents.push_back(stream);
    }
    for (const auto& stream : orders) stream->Abort(leaving);
    for (const auto& stream : agents) stream->Abort(leaving);
    for (const auto& stream : Copy(slot_watchers_)) stream->Abort(leaving);
    for (const auto& stream : Copy(event_watchers_)) stream->Abort(leaving);
  }

  bool StreamsOpen() const REQUIRES(mutex_) {
    if (!agents_.empty() || !slot_watchers_.empty() || !event_watchers_.empty()) return true;
    return std::any_of(workers_.begin(), workers_.end(),
                       [](const auto& entry) { return entry.second.stream != nullptr; });
  }

  const ServiceOptions options_;
  JobControl& control_;
  int port_ = 0;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, Worker> workers_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<AgentStream>> agents_ GUARDED_BY(mutex_);
  Watchers<SlotsStream> slot_watchers_;   // under mutex_
  Watchers<WatchStream> event_watchers_;  // under mutex_
  SetSlots slots_ GUARDED_BY(mutex_);
  uint64_t slots_version_ GUARDED_BY(mutex_) = 0;  // 0: not told yet
  std::optional<std::string> finished_ GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

Result<std::unique_ptr<RendezvousService>> RendezvousService::Create(const ServiceOptions& options,
                                                                     JobControl& control) {
  // It would write a line for each bad byte it is sent, whoever sends it.
  google::protobuf::SetLogHandler(nullptr);
  auto impl = std::make_unique<Impl>(options, control);
  MUSTER_TRY(impl->Listen());
  return std::unique_ptr<RendezvousService>(new RendezvousService(std::move(impl)));
}

RendezvousService::RendezvousService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RendezvousService::~RendezvousService() { Shutdown(); }
int RendezvousService::port() const { return impl_->port(); }
void RendezvousService::Send(const SendOrder& order) { impl_->Send(order); }
void RendezvousService::Send(const SendAgent& order) { impl_->Send(order); }
void RendezvousService::Send(const SetSlots& slots) { impl_->Send(slots); }
void RendezvousService::EventsChanged() { impl_->EventsChanged(); }
void RendezvousService::Progress(const std::string& json) { impl_->Progress(json); }
void RendezvousService::Finished(const std::string& json) { impl_->Finished(json); }
bool RendezvousService::WaitUntilQuiet(TimePoint deadline) {
  return impl_->WaitUntilQuiet(deadline);
}
void RendezvousService::Shutdown() { impl_->Shutdown(); }

}  // namespace muster
