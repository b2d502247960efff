#include "launcher/rendezvous/service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/rendezvous/event_log.h"
#include "runtime/base/unique_fd.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kPatience{60};  // for machines that are very busy
constexpr char kJob[] = "0123456789abcdef";
constexpr char kSecret[] = "00112233";

// A job that follows a script: it remembers the events and answers at once.
class FakeJob final : public JobControl {
 public:
  void Submit(CoordinatorEvent event, Done done, Relevant relevant) override {
    const bool wanted = !relevant || relevant();
    {
      std::lock_guard lock(mutex_);
      if (wanted) events_.push_back(std::move(event));
    }
    changed_.notify_all();
    if (done) done(answer_);
  }
  Status CheckResize(int min_workers, int) override {
    if (min_workers >= 1) return {};
    return Err(Code::kInvalidArgument, "{} workers are too few", min_workers);
  }
  std::string StatusText() override { return "{\"name\":\"test\"}"; }
  std::vector<std::string> ReadEvents(uint64_t from, size_t limit) override {
    return log_.Read(from, limit);
  }
  uint64_t NextEvent() override { return log_.next_sequence(); }

  void Emit(const std::string& message) {
    log_.Append(EmitEvent{"note", 1, message, std::nullopt}, WallTime{});
  }

  template <typename Event>
  std::vector<Event> Seen() {
    std::lock_guard lock(mutex_);
    std::vector<Event> seen;
    for (const CoordinatorEvent& event : events_) {
      if (const auto* wanted = std::get_if<Event>(&event)) seen.push_back(*wanted);
    }
    return seen;
  }
  template <typename Event>
  bool Await(size_t count) {
    const TimePoint deadline = MonotonicNow() + kPatience;
    while (Seen<Event>().size() < count) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(5));
      if (MonotonicNow() > deadline) return false;
    }
    return true;
  }

  Status answer_;

 private:
  EventLog log_{"/dev/null/nowhere"};  // in memory only
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<CoordinatorEvent> events_;
};

struct Call {
  explicit Call(const std::string& secret = kSecret, const std::string& job = kJob) {
    Authenticate(context, job, secret);
    SetDeadline(context, MonotonicNow() + kPatience);
  }
  grpc::ClientContext context;
};

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { Begin({.job = kJob, .secret = kSecret}); }
  void TearDown() override {
    if (service_) service_->Shutdown();
  }

  void Begin(const ServiceOptions& options) {
    auto service = RendezvousService::Create(options, job_);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
    stub_ = NewStub();
  }
  std::unique_ptr<v1::Rendezvous::Stub> NewStub() const {
    return v1::Rendezvous::NewStub(OpenChannel(fmt::format("127.0.0.1:{}", service_->port())));
  }

  static v1::Hello Worker(const std::string& id, uint64_t incarnation = 1) {
    Hello hello;
    hello.worker = id;
    hello.incarnation = incarnation;
    hello.micro_batches = hello.batch_size = 16;
    return ToProto(hello);
  }
  static SendOrder StopOrder(const std::string& worker, uint64_t incarnation,
                             const std::string& reason) {
    return {worker, incarnation, Order{Order::Kind::kStop, {}, false, reason}};
  }
  grpc::Status SendReport(const std::string& id, uint64_t incarnation) {
    Report report;
    report.worker = id;
    report.incarnation = incarnation;
    Call call;
    v1::Ack ack;
    return stub_->Report(&call.context, ToProto(report), &ack);
  }
  static std::string Message(const v1::JsonReply& reply) {
    return nlohmann::json::parse(reply.json()).value("message", reply.json());
  }

  FakeJob job_;
  std::unique_ptr<RendezvousService> service_;
  std::unique_ptr<v1::Rendezvous::Stub> stub_;
};

// An open stream of a worker; its destructor hangs up.
struct Joined {
  Joined(v1::Rendezvous::Stub& stub, const v1::Hello& hello)
      : reader(stub.Join(&call.context, hello)) {
    reader->WaitForInitialMetadata();
  }
  ~Joined() {
    call.context.TryCancel();
    if (!finished) reader->Finish();
  }
  std::string Next() {
    v1::Order order;
    return reader->Read(&order) ? order.reason() : "<end>";
  }
  grpc::Status Finish() {
    finished = true;
    return reader->Finish();
  }
  Call call;
  std::unique_ptr<grpc::ClientReader<v1::Order>> reader;
  bool finished = false;
};

struct Watching {
  Watching(v1::Rendezvous::Stub& stub, uint64_t from) {
    v1::EventsRequest request;
    request.set_from_sequence(from);
    reader = stub.WatchEvents(&call.context, request);
    reader->WaitForInitialMetadata();
  }
  ~Watching() {
    call.context.TryCancel();
    if (!finished) reader->Finish();
  }
  std::string Next() {
    v1::JsonReply reply;
    if (!reader->Read(&reply)) return "<end>";
    const auto object = nlohmann::json::parse(reply.json());
    return object.value("message", object.value("event", "?"));
  }
  grpc::Status Finish() {
    finished = true;
    return reader->Finish();
  }
  Call call;
  std::unique_ptr<grpc::ClientReader<v1::JsonReply>> reader;
  bool finished = false;
};

// --- Who may call ---

TEST_F(ServiceTest, RefusesEveryCallWithoutTheSecretOrTheJob) {
  const std::pair<std::string, std::string> strangers[] = {
      {"", kJob},          {"00112234", kJob}, {"0011223", kJob},
      {"001122330", kJob}, {kSecret, ""},      {kSecret, "another job"}};
  for (const auto& [secret, job] : strangers) {
    SCOPED_TRACE(secret + " " + job);
    const auto unary = [&](auto method, auto request, auto reply) {
      Call call(secret, job);
      EXPECT_EQ((*stub_.*method)(&call.context, request, &reply).error_code(),
                grpc::UNAUTHENTICATED);
    };
    using Stub = v1::Rendezvous::Stub;
    unary(&Stub::Report, v1::WorkerReport(), v1::Ack());
    unary(&Stub::ReportAgent, v1::AgentReport(), v1::Ack());
    unary(&Stub::ReportSlot, v1::SlotReport(), v1::Ack());
    unary(&Stub::GetStatus, v1::StatusRequest(), v1::JsonReply());
    unary(&Stub::Resize, v1::ResizeRequest(), v1::JsonReply());
    unary(&Stub::Stop, v1::StopRequest(), v1::JsonReply());
    const auto stream = [&](auto method, auto request) {
      Call call(secret, job);
      EXPECT_EQ((*stub_.*method)(&call.context, request)->Finish().error_code(),
                grpc::UNAUTHENTICATED);
    };
    stream(&Stub::Join, Worker("w-0"));
    stream(&Stub::Attach, v1::AgentHello());
    stream(&Stub::WatchSlots, v1::SlotsRequest());
    stream(&Stub::WatchEvents, v1::EventsRequest());
  }
  grpc::ClientContext bare;
  v1::JsonReply reply;
  EXPECT_EQ(stub_->GetStatus(&bare, {}, &reply).error_code(), grpc::UNAUTHENTICATED);
  EXPECT_TRUE(job_.Seen<WorkerHello>().empty());
  EXPECT_TRUE(job_.Seen<StopRequested>().empty());
}

TEST_F(ServiceTest, ListensOnLoopbackOnly) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(service_->port()));
  address.sin_addr.s_addr =
      htonl(INADDR_LOOPBACK + 1);  // 127.0.0.2: answers only if all addresses are listened on
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_NE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
}

TEST_F(ServiceTest, RefusesAMessageThatIsTooLarge) {
  v1::StopRequest request;
  request.set_reason(std::string(kMaxMessageBytes + 1, 'x'));
  Call call;
  v1::JsonReply reply;
  const auto channel = grpc::CreateChannel(fmt::format("127.0.0.1:{}", service_->port()),
                                           grpc::InsecureChannelCredentials());
  EXPECT_EQ(v1::Rendezvous::NewStub(channel)->Stop(&call.context, request, &reply).error_code(),
            grpc::RESOURCE_EXHAUSTED);
  request.set_reason(std::string(kMaxTextBytes + 1, 'x'));
  Call second;
  EXPECT_EQ(stub_->Stop(&second.context, request, &reply).error_code(), grpc::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, NamesTheFieldThatIsWrong) {
  Call call;
  v1::Hello hello = Worker("w-0");
  hello.set_micro_batches(0);
  const grpc::Status refused = stub_->Join(&call.context, hello)->Finish();
  EXPECT_EQ(refused.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(), "micro_batches is 0, it must be 1 to 65536");
  const auto agent_report = [&](v1::AgentReport::Kind kind, int exit_code, int signal) {
    v1::AgentReport report;
    report.set_kind(kind);
    report.set_agent("w-0");
    report.set_exit_code(exit_code);
    report.set_signal(signal);
    Call each;
    v1::Ack ack;
    return stub_->ReportAgent(&each.context, report, &ack).error_code();
  };
  EXPECT_EQ(agent_report(v1::AgentReport::WORKER_EXITED, 300, 0), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(agent_report(v1::AgentReport::WORKER_EXITED, 0, -1), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(agent_report(v1::AgentReport::KIND_UNSPECIFIED, 0, 0), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(agent_report(v1::AgentReport::WORKER_EXITED, -1, 9), grpc::OK);
}

// --- Workers ---

TEST_F(ServiceTest, DeliversOrdersInOrder) {
  Joined worker(*stub_, Worker("w-0"));
  for (int i = 0; i < 100; ++i) service_->Send(StopOrder("w-0", 1, std::to_string(i)));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(worker.Next(), std::to_string(i));
  ASSERT_EQ(job_.Seen<WorkerHello>().size(), 1u);
  EXPECT_EQ(job_.Seen<WorkerHello>()[0].hello.worker, "w-0");
}

TEST_F(ServiceTest, SendsNothingToAnotherIncarnation) {
  Joined worker(*stub_, Worker("w-0", 2));
  service_->Send(StopOrder("w-0", 1, "for the one before"));
  service_->Send(StopOrder("w-1", 2, "for another"));
  service_->Send(StopOrder("w-0", 2, "for this one"));
  EXPECT_EQ(worker.Next(), "for this one");
}

TEST_F(ServiceTest, TellsWhenAWorkerHangsUp) {
  { Joined worker(*stub_, Worker("w-0", 5)); }
  ASSERT_TRUE(job_.Await<WorkerStreamLost>(1));
  EXPECT_EQ(job_.Seen<WorkerStreamLost>()[0].worker, "w-0");
  EXPECT_EQ(job_.Seen<WorkerStreamLost>()[0].incarnation, 5u);
}

TEST_F(ServiceTest, ReplacesTheStreamOfAWorkerThatCallsAgain) {
  Joined first(*stub_, Worker("w-0"));
  Joined second(*stub_, Worker("w-0"));
  EXPECT_EQ(first.Next(), "<end>");
  EXPECT_EQ(first.Finish().error_code(), grpc::ABORTED);
  service_->Send(StopOrder("w-0", 1, "hello again"));
  EXPECT_EQ(second.Next(), "hello again");
  EXPECT_EQ(job_.Seen<WorkerHello>().size(), 2u);
  EXPECT_TRUE(job_.Seen<WorkerStreamLost>().empty()) << "the worker was never gone";
}

TEST_F(ServiceTest, FencesTheOlderProcessOfAWorker) {
  Joined newer(*stub_, Worker("w-0", 2));
  Call call;
  const grpc::Status refused = stub_->Join(&call.context, Worker("w-0", 1))->Finish();
  EXPECT_EQ(refused.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_EQ(refused.error_message(), "process 1 of w-0 has been replaced by process 2");
  EXPECT_EQ(SendReport("w-0", 1).error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_EQ(SendReport("w-0", 2).error_code(), grpc::OK);
  service_->Send(StopOrder("w-0", 2, "undisturbed"));
  EXPECT_EQ(newer.Next(), "undisturbed");
}

TEST_F(ServiceTest, FencesByWhatTheAgentHasStarted) {
  Joined worker(*stub_, Worker("w-0", 1));
  v1::AgentReport started;
  started.set_kind(v1::AgentReport::WORKER_STARTED);
  started.set_agent("w-0");
  started.set_incarnation(2);
  Call call;
  v1::Ack ack;
  ASSERT_TRUE(stub_->ReportAgent(&call.context, started, &ack).ok());
  EXPECT_EQ(SendReport("w-0", 1).error_code(), grpc::FAILED_PRECONDITION);
}

TEST_F(ServiceTest, FencesByWhatAFormerCoordinatorKnew) {
  service_->Shutdown();
  Begin({.job = kJob, .secret = kSecret, .incarnations = {{"w-0", 7}}});
  Call call;
  EXPECT_EQ(stub_->Join(&call.context, Worker("w-0", 6))->Finish().error_code(),
            grpc::FAILED_PRECONDITION);
  EXPECT_EQ(SendReport("w-0", 7).error_code(), grpc::UNAVAILABLE)
      << "it has not joined this coordinator";
  Joined worker(*stub_, Worker("w-0", 7));
  EXPECT_EQ(SendReport("w-0", 7).error_code(), grpc::OK);
}

TEST_F(ServiceTest, HasAWorkerRepeatAReportUntilItHasJoined) {
  EXPECT_EQ(SendReport("w-0", 1).error_code(), grpc::UNAVAILABLE);
  Joined worker(*stub_, Worker("w-0"));
  EXPECT_EQ(SendReport("w-0", 1).error_code(), grpc::OK);
  EXPECT_EQ(job_.Seen<WorkerReported>().size(), 1u);
}

TEST_F(ServiceTest, CutsOffAWorkerThatDoesNotReadAndNobodyElse) {
  Joined slow(*stub_, Worker("w-0"));
  Joined other(*NewStub(), Worker("w-1"));
  // More than the connection's window holds, so that the queue fills up.
  const std::string reason(8'000, 'x');
  for (size_t i = 0; i < RendezvousService::kMaxQueuedOrders + 1'500; ++i) {
    service_->Send(StopOrder("w-0", 1, reason));
    if (i % 500 == 0) service_->Send(StopOrder("w-1", 1, std::to_string(i)));
  }
  for (size_t i = 0; i < RendezvousService::kMaxQueuedOrders + 1'500; i += 500)
    ASSERT_EQ(other.Next(), std::to_string(i));
  while (slow.Next() != "<end>") {
  }
  EXPECT_EQ(slow.Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(job_.Await<WorkerStreamLost>(1));
}

TEST_F(ServiceTest, AnswersWithTheReasonWhyAnEventIsNotCarriedOut) {
  Joined worker(*stub_, Worker("w-0"));
  job_.answer_ = Err(Code::kUnavailable, "going away");
  EXPECT_EQ(SendReport("w-0", 1).error_message(), "going away");
}

// --- Agents and platform ---

TEST_F(ServiceTest, CarriesAgentsOrdersAndReports) {
  Call call;
  v1::AgentHello hello;
  hello.set_agent("w-3");
  const auto reader = stub_->Attach(&call.context, hello);
  reader->WaitForInitialMetadata();
  ASSERT_EQ(job_.Seen<AgentAttached>().size(), 1u);
  service_->Send(SendAgent{"w-3", SendAgent::Kind::kRestartWorker, "it hangs"});
  service_->Send(SendAgent{"w-3", SendAgent::Kind::kShutDownNow, "stop"});
  v1::AgentOrder order;
  ASSERT_TRUE(reader->Read(&order));
  EXPECT_EQ(order.kind(), v1::AgentOrder::RESTART_WORKER);
  EXPECT_EQ(order.reason(), "it hangs");
  ASSERT_TRUE(reader->Read(&order));
  EXPECT_EQ(order.kind(), v1::AgentOrder::SHUT_DOWN_NOW);
  v1::AgentReport exited;
  exited.set_kind(v1::AgentReport::WORKER_EXITED);
  exited.set_agent("w-3");
  exited.set_incarnation(4);
  exited.set_exit_code(-1);
  exited.set_signal(9);
  exited.set_last_output("boom");
  Call second;
  v1::Ack ack;
  ASSERT_TRUE(stub_->ReportAgent(&second.context, exited, &ack).ok());
  const auto seen = job_.Seen<WorkerExited>();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].slot, "w-3");
  EXPECT_EQ(seen[0].incarnation, 4u);
  EXPECT_EQ(seen[0].signal, 9);
  EXPECT_EQ(seen[0].last_output, "boom");
  call.context.TryCancel();
  reader->Finish();
}

TEST_F(ServiceTest, TellsThePlatformTheSlotsNowAndLater) {
  service_->Send(SetSlots{{"w-0"}});
  Call call;
  const auto reader = stub_->WatchSlots(&call.context, {});
  v1::SlotsOrder order;
  ASSERT_TRUE(reader->Read(&order));
  EXPECT_EQ(order.slots_size(), 1);
  service_->Send(SetSlots{{"w-0", "w-1"}});
  ASSERT_TRUE(reader->Read(&order));
  EXPECT_EQ(order.slots_size(), 2);
  service_->Finished("{}");
  service_->Send(SetSlots{});
  ASSERT_TRUE(reader->Read(&order));
  EXPECT_EQ(order.slots_size(), 0);
  while (reader->Read(&order)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

// --- Operators ---

TEST_F(ServiceTest, GivesTwoWatchersTheSameEventsStoredAndLive) {
  job_.Emit("one");
  Watching first(*stub_, 0);
  EXPECT_EQ(first.Next(), "one");
  job_.Emit("two");
  service_->EventsChanged();
  Watching second(*NewStub(), 2);
  job_.Emit("three");
  service_->EventsChanged();
  for (Watching* each : {&first, &second}) {
    EXPECT_EQ(each->Next(), "two");
    EXPECT_EQ(each->Next(), "three");
  }
  service_->Finished("{\"event\":\"finished\"}");
  for (Watching* each : {&first, &second}) {
    EXPECT_EQ(each->Next(), "finished");
    EXPECT_EQ(each->Next(), "<end>");
    EXPECT_TRUE(each->Finish().ok());
  }
}

TEST_F(ServiceTest, ShowsProgressBetweenEvents) {
  Watching watcher(*stub_, 1);
  service_->Progress("{\"event\":\"progress\"}");
  EXPECT_EQ(watcher.Next(), "progress");
}

TEST_F(ServiceTest, GivesALateWatcherAllEventsAndTheEnd) {
  for (int i = 1; i <= 300; ++i) job_.Emit(std::to_string(i));
  service_->Finished("{\"event\":\"finished\"}");
  Watching watcher(*stub_, 1);
  for (int i = 1; i <= 300; ++i) ASSERT_EQ(watcher.Next(), std::to_string(i));
  EXPECT_EQ(watcher.Next(), "finished");
  EXPECT_EQ(watcher.Next(), "<end>");
}

TEST_F(ServiceTest, IsNotHeldUpByAWatcherThatDoesNotRead) {
  Watching slow(*stub_, 1);
  Watching quick(*NewStub(), 1);
  const std::string text(8'000, 'x');
  for (int i = 0; i < 400; ++i) {
    job_.Emit(text);
    service_->EventsChanged();
    ASSERT_EQ(quick.Next(), text);
  }
  service_->Finished("{\"event\":\"finished\"}");
  EXPECT_EQ(quick.Next(), "finished");
  for (int i = 0; i < 400; ++i) ASSERT_EQ(slow.Next(), text) << "the slow one misses nothing";
  EXPECT_EQ(slow.Next(), "finished");
}

TEST_F(ServiceTest, LimitsTheNumberOfWatchers) {
  std::vector<std::unique_ptr<Watching>> watchers;
  for (size_t i = 0; i < RendezvousService::kMaxWatchers; ++i)
    watchers.push_back(std::make_unique<Watching>(*stub_, 1));
  Watching one_more(*stub_, 1);
  EXPECT_EQ(one_more.Next(), "<end>");
  EXPECT_EQ(one_more.Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
}

TEST_F(ServiceTest, AnswersOperators) {
  v1::JsonReply reply;
  Call status;
  ASSERT_TRUE(stub_->GetStatus(&status.context, {}, &reply).ok());
  EXPECT_EQ(reply.json(), "{\"name\":\"test\"}");
  v1::ResizeRequest resize;
  resize.set_min_workers(0);
  Call bad;
  const grpc::Status refused = stub_->Resize(&bad.context, resize, &reply);
  EXPECT_EQ(refused.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(), "0 workers are too few");
  EXPECT_TRUE(job_.Seen<ResizeRequested>().empty());
  resize.set_min_workers(2);
  resize.set_max_workers(5);
  Call good;
  ASSERT_TRUE(stub_->Resize(&good.context, resize, &reply).ok());
  EXPECT_EQ(reply.json(), "{\"min_workers\":2,\"max_workers\":5}");
  ASSERT_EQ(job_.Seen<ResizeRequested>().size(), 1u);
  v1::StopRequest stop;
  stop.set_now(true);
  stop.set_reason("enough");
  Call last;
  ASSERT_TRUE(stub_->Stop(&last.context, stop, &reply).ok());
  ASSERT_EQ(job_.Seen<StopRequested>().size(), 1u);
  EXPECT_TRUE(job_.Seen<StopRequested>()[0].now);
  EXPECT_EQ(job_.Seen<StopRequested>()[0].reason, "enough");
}

// --- The server itself ---

TEST_F(ServiceTest, TakesItsFormerPortAgainAndAnotherIfThatIsTaken) {
  const int port = service_->port();
  service_->Shutdown();
  Begin({.job = kJob, .secret = kSecret, .port = port});
  EXPECT_EQ(service_->port(), port);
  auto other = RendezvousService::Create({.job = kJob, .secret = kSecret, .port = port}, job_);
  ASSERT_TRUE(other);
  EXPECT_NE((*other)->port(), port);
  EXPECT_NE((*other)->port(), 0);
}

TEST_F(ServiceTest, KnowsWhenEverybodyHasGone) {
  EXPECT_TRUE(service_->WaitUntilQuiet(MonotonicNow() + kPatience));
  auto worker = std::make_unique<Joined>(*stub_, Worker("w-0"));
  EXPECT_FALSE(service_->WaitUntilQuiet(MonotonicNow() + std::chrono::milliseconds(1)));
  worker.reset();
  EXPECT_TRUE(service_->WaitUntilQuiet(MonotonicNow() + kPatience));
}

TEST_F(ServiceTest, ShutsDownPromptlyWithOpenStreams) {
  Joined worker(*stub_, Worker("w-0"));
  Watching watcher(*stub_, 1);
  const TimePoint begin = MonotonicNow();
  service_->Shutdown();
  EXPECT_LT(MonotonicNow() - begin, std::chrono::seconds(2));
  EXPECT_EQ(worker.Next(), "<end>");
  EXPECT_EQ(worker.Finish().error_code(), grpc::UNAVAILABLE);
}

// Many callers at once: nothing is lost, doubled or out of order.
TEST_F(ServiceTest, ServesManyWorkersAtOnce) {
  constexpr int kWorkers = 16;
  constexpr int kOrders = 50;
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int w = 0; w < kWorkers; ++w) {
      threads.emplace_back([&, w] {
        const std::string id = fmt::format("w-{}", w);
        const auto stub = NewStub();
        Joined worker(*stub, Worker(id));
        for (int i = 0; i < kOrders; ++i) {
          service_->Send(StopOrder(id, 1, std::to_string(i)));
          if (worker.Next() == std::to_string(i) && SendReport(id, 1).ok()) ++right;
        }
      });
    }
  }
  EXPECT_EQ(right, kWorkers * kOrders);
  EXPECT_EQ(job_.Seen<WorkerReported>().size(), static_cast<size_t>(kWorkers * kOrders));
}

}  // namespace
}  // namespace muster
