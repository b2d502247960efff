#include "runtime/rpc/coordinator_link.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "runtime/base/files.h"
#include "runtime/proto/muster.grpc.pb.h"
#include "runtime/rpc/channel.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

constexpr std::chrono::seconds kPatience{60};  // for machines that are very busy
constexpr char kJob[] = "0123";
constexpr char kSecret[] = "abcd";

// A coordinator that does what a test tells it and remembers what it heard.
class FakeCoordinator final : public v1::Rendezvous::Service {
 public:
  // Listens on `port`, or any free one.
  void Start(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  void ShutDown() {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    std::lock_guard lock(mutex_);
    closing_ = false;
    orders_.clear();
  }
  ~FakeCoordinator() override {
    if (server_) ShutDown();
  }
  int port() const { return port_; }

  void Send(const Order& order) {
    {
      std::lock_guard lock(mutex_);
      orders_.push_back(order);
    }
    changed_.notify_all();
  }
  // Answers the next `count` reports with `code`.
  void Refuse(grpc::StatusCode code, int count) {
    std::lock_guard lock(mutex_);
    refusal_ = code;
    refusals_ = count;
  }
  void RefuseJoins(grpc::StatusCode code) {
    std::lock_guard lock(mutex_);
    join_refusal_ = code;
  }
  // Reports are not answered until the server stops or this is undone.
  void Hang(bool hang) {
    {
      std::lock_guard lock(mutex_);
      hang_ = hang;
    }
    changed_.notify_all();
  }

  std::vector<Hello> Hellos() {
    std::lock_guard lock(mutex_);
    return hellos_;
  }
  std::vector<std::string> Taken(muster::Report::Kind kind) {
    std::lock_guard lock(mutex_);
    std::vector<std::string> messages;
    for (const muster::Report& report : taken_) {
      if (report.kind == kind) messages.push_back(report.message);
    }
    return messages;
  }
  bool Await(const std::function<bool()>& condition) {
    const TimePoint deadline = MonotonicNow() + kPatience;
    while (!condition()) {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, std::chrono::milliseconds(2)) == std::cv_status::timeout &&
          MonotonicNow() > deadline)
        return false;
    }
    return true;
  }

 private:
  grpc::Status Join(grpc::ServerContext* context, const v1::Hello* request,
                    grpc::ServerWriter<v1::Order>* writer) override {
    {
      std::lock_guard lock(mutex_);
      if (join_refusal_ != grpc::OK) return {join_refusal_, "a newer process has registered"};
      hellos_.push_back(*FromProto(*request));
    }
    changed_.notify_all();
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    writer->SendInitialMetadata();
    std::unique_lock lock(mutex_);
    while (!closing_ && !context->IsCancelled()) {
      if (orders_.empty()) {
        changed_.wait_for(lock, std::chrono::milliseconds(5));
      } else {
        writer->Write(ToProto(orders_.front()));
        orders_.erase(orders_.begin());
      }
    }
    return grpc::Status::OK;
  }
  grpc::Status Report(grpc::ServerContext* context, const v1::WorkerReport* request,
                      v1::Ack*) override {
    std::unique_lock lock(mutex_);
    EXPECT_EQ(context->client_metadata().find(kSecretMetadata)->second, kSecret);
    EXPECT_EQ(context->client_metadata().find(kJobMetadata)->second, kJob);
    while (hang_ && !closing_ && !context->IsCancelled())
      changed_.wait_for(lock, std::chrono::milliseconds(5));
    if (request->kind() != v1::WorkerReport::PROGRESS && refusals_ > 0) {
      --refusals_;
      return {refusal_, "not now"};
    }
    taken_.push_back(*FromProto(*request));
    changed_.notify_all();
    return grpc::Status::OK;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Order> orders_;
  std::vector<Hello> hellos_;
  std::vector<muster::Report> taken_;
  grpc::StatusCode refusal_ = grpc::OK;
  grpc::StatusCode join_refusal_ = grpc::OK;
  int refusals_ = 0;
  bool hang_ = false;
  bool closing_ = false;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class CoordinatorLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "muster-link-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Announce(int port) {
    ASSERT_TRUE(
        WriteFileAtomically(folder_ / "coordinator.json",
                            fmt::format("{{\"address\":\"127.0.0.1:{}\",\"pid\":1}}\n", port)));
  }
  void Begin() {
    coordinator_.Start();
    Announce(coordinator_.port());
  }
  CoordinatorLinkOptions Options() {
    return {folder_, kJob, kSecret, [this] { return MakeHello(); },
            [this](const Order& order) {
              std::lock_guard lock(mutex_);
              orders_.push_back(order.reason);
            }};
  }
  Hello MakeHello() {
    Hello hello;
    hello.worker = "w-0";
    hello.incarnation = 3;
    hello.micro_batches = hello.batch_size = 16;
    hello.step = step_;
    return hello;
  }
  static Report MakeReport(Report::Kind kind, const std::string& message) {
    Report report;
    report.kind = kind;
    report.worker = "w-0";
    report.incarnation = 3;
    report.message = message;
    if (kind == Report::Kind::kFinished) report.result = RunResult{};
    return report;
  }
  static Report Notice(const std::string& message) {
    return MakeReport(Report::Kind::kNotice, message);
  }
  std::vector<std::string> Orders() {
    std::lock_guard lock(mutex_);
    return orders_;
  }
  bool Await(const std::function<bool()>& condition) { return coordinator_.Await(condition); }
  static TimePoint Patience() { return MonotonicNow() + kPatience; }

  std::filesystem::path folder_;
  FakeCoordinator coordinator_;
  std::atomic<uint64_t> step_{0};
  std::mutex mutex_;
  std::vector<std::string> orders_;
};

using Strings = std::vector<std::string>;

TEST_F(CoordinatorLinkTest, DeliversOrdersInOrder) {
  Begin();
  CoordinatorLink link(Options());
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  for (const char* reason : {"one", "two", "three"})
    coordinator_.Send(Order{Order::Kind::kStop, {}, false, reason});
  ASSERT_TRUE(Await([&] { return Orders().size() == 3; }));
  EXPECT_EQ(Orders(), (Strings{"one", "two", "three"}));
}

TEST_F(CoordinatorLinkTest, WaitsForTheCoordinatorToAppear) {
  CoordinatorLink link(Options());
  link.Report(Notice("early"));
  EXPECT_FALSE(link.connected());
  Begin();
  ASSERT_TRUE(link.Flush(Patience()));
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kNotice), (Strings{"early"}));
}

TEST_F(CoordinatorLinkTest, SendsHeartbeats) {
  Begin();
  CoordinatorLink link(Options());
  link.SetProgressSource([] { return MakeReport(Report::Kind::kProgress, "alive"); },
                         std::chrono::milliseconds(5));
  EXPECT_TRUE(Await([&] { return coordinator_.Taken(Report::Kind::kProgress).size() >= 3; }));
}

TEST_F(CoordinatorLinkTest, SendsOnlyTheNewestProgress) {
  Begin();
  coordinator_.Hang(true);
  CoordinatorLink link(Options());
  link.Report(Notice("in flight"));
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  for (int i = 0; i < 100; ++i) link.Report(MakeReport(Report::Kind::kProgress, std::to_string(i)));
  coordinator_.Hang(false);
  ASSERT_TRUE(Await([&] { return !coordinator_.Taken(Report::Kind::kProgress).empty(); }));
  link.Report(Notice("end"));
  ASSERT_TRUE(link.Flush(Patience()));
  const Strings taken = coordinator_.Taken(Report::Kind::kProgress);
  EXPECT_LE(taken.size(), 2u);
  EXPECT_EQ(taken.back(), "99");
}

TEST_F(CoordinatorLinkTest, RepeatsReportsInOrderUntilTheyAreTaken) {
  Begin();
  for (const auto code : {grpc::UNAVAILABLE, grpc::UNAUTHENTICATED, grpc::UNKNOWN}) {
    coordinator_.Refuse(code, 3);
    CoordinatorLink link(Options());
    link.Report(Notice("a"));
    link.Report(Notice("b"));
    ASSERT_TRUE(link.Flush(Patience()));
  }
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kNotice), (Strings{"a", "b", "a", "b", "a", "b"}));
}

TEST_F(CoordinatorLinkTest, DropsAReportThatIsRefusedForGood) {
  Begin();
  coordinator_.Refuse(grpc::FAILED_PRECONDITION, 1);
  CoordinatorLink link(Options());
  link.Report(Notice("refused"));
  link.Report(Notice("taken"));
  ASSERT_TRUE(link.Flush(Patience()));
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kNotice), (Strings{"taken"}));
}

TEST_F(CoordinatorLinkTest, ComesBackToTheSamePortWithAFreshHello) {
  Begin();
  CoordinatorLink link(Options());
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  const int port = coordinator_.port();
  coordinator_.ShutDown();
  ASSERT_TRUE(Await([&] { return !link.connected(); }));
  step_ = 42;
  link.Report(Notice("while it was away"));
  coordinator_.Start(port);
  ASSERT_TRUE(link.Flush(Patience()));
  EXPECT_EQ(coordinator_.Hellos().back().step, 42u);
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kNotice), (Strings{"while it was away"}));
}

TEST_F(CoordinatorLinkTest, FollowsTheCoordinatorToAnotherPort) {
  Begin();
  CoordinatorLink link(Options());
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  coordinator_.ShutDown();
  FakeCoordinator next;
  next.Start();
  Announce(next.port());
  EXPECT_TRUE(next.Await([&] { return !next.Hellos().empty() && link.connected(); }));
}

// A restarted coordinator has forgotten the results; the link has not.
TEST_F(CoordinatorLinkTest, RepeatsTheResultToACoordinatorThatHasComeBack) {
  Begin();
  CoordinatorLink link(Options());
  link.Report(MakeReport(Report::Kind::kFinished, "result"));
  ASSERT_TRUE(link.Flush(Patience()));
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kFinished).size(), 1u);
  const int port = coordinator_.port();
  coordinator_.ShutDown();
  coordinator_.Start(port);
  EXPECT_TRUE(Await([&] { return coordinator_.Taken(Report::Kind::kFinished).size() == 2; }));
}

TEST_F(CoordinatorLinkTest, SaysHelloAgainOnReconnect) {
  Begin();
  CoordinatorLink link(Options());
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  step_ = 7;
  link.Reconnect();
  ASSERT_TRUE(Await([&] { return coordinator_.Hellos().size() == 2 && link.connected(); }));
  EXPECT_EQ(coordinator_.Hellos().back().step, 7u);
}

TEST_F(CoordinatorLinkTest, ReconnectsFromInsideTheOrderHandler) {
  Begin();
  CoordinatorLink* line = nullptr;
  std::atomic<bool> ready{false};
  CoordinatorLinkOptions options = Options();
  options.on_order = [&](const Order& order) {
    if (!ready || order.kind != Order::Kind::kRejoin) return;
    step_ = 9;
    line->Reconnect();
  };
  CoordinatorLink link(options);
  line = &link;
  ready = true;
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  coordinator_.Send(Order{Order::Kind::kRejoin, {}, false, "late"});
  ASSERT_TRUE(Await([&] { return coordinator_.Hellos().size() == 2; }));
  EXPECT_EQ(coordinator_.Hellos().back().step, 9u);
}

TEST_F(CoordinatorLinkTest, IsReleasedWhenANewerProcessHasItsId) {
  Begin();
  coordinator_.RefuseJoins(grpc::FAILED_PRECONDITION);
  CoordinatorLink link(Options());
  link.Report(Notice("nobody wants it"));
  ASSERT_TRUE(Await([&] { return !Orders().empty(); }));
  EXPECT_EQ(Orders(), (Strings{"a newer process has registered"}));
  EXPECT_TRUE(link.Flush(Patience()));
}

TEST_F(CoordinatorLinkTest, NeverRegistersAgainOnceItIsReleased) {
  Begin();
  CoordinatorLink link(Options());
  ASSERT_TRUE(Await([&] { return link.connected(); }));
  coordinator_.Send(Order{Order::Kind::kRelease, {}, false, "all done"});
  ASSERT_TRUE(Await([&] { return !Orders().empty(); }));
  coordinator_.ShutDown();
  coordinator_.Start(coordinator_.port());
  step_ = 7;
  for (size_t others = 1; others <= 20;
       ++others) {  // each takes its time, in which the first could come back
    CoordinatorLink other(Options());
    ASSERT_TRUE(Await([&] { return other.connected(); }));
    ASSERT_EQ(coordinator_.Hellos().size(), 1 + others);
  }
}

TEST_F(CoordinatorLinkTest, FlushEndsAtItsDeadlineWithTheNumberLeft) {
  CoordinatorLink link(Options());
  link.Report(Notice("a"));
  link.Report(Notice("b"));
  const Status flushed = link.Flush(MonotonicNow() + std::chrono::milliseconds(10));
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code, Code::kDeadlineExceeded);
  EXPECT_NE(flushed.error().message.find("2 of the reports"), std::string::npos);
}

TEST_F(CoordinatorLinkTest, MakesRoomByDroppingNotices) {
  {
    CoordinatorLink link(Options());
    link.Report(MakeReport(Report::Kind::kRevoked, "kept"));
    link.Report(Notice("twice"));
    for (size_t i = 0; i < CoordinatorLink::kMaxQueuedReports - 2; ++i)
      link.Report(Notice(std::to_string(i)));
    link.Report(Notice("twice"));     // drops the identical one
    link.Report(Notice("one more"));  // drops the oldest notice
    Begin();
    ASSERT_TRUE(link.Flush(Patience()));
  }
  const Strings notices = coordinator_.Taken(Report::Kind::kNotice);
  ASSERT_EQ(notices.size(), CoordinatorLink::kMaxQueuedReports - 1);
  EXPECT_EQ(notices.front(), "1");
  EXPECT_EQ(notices[notices.size() - 2], "twice");
  EXPECT_EQ(notices.back(), "one more");
  EXPECT_EQ(coordinator_.Taken(Report::Kind::kRevoked), (Strings{"kept"}));
}

// However it ends, the worker's process must not wait for its coordinator. The bound is generous for slow machines.
constexpr std::chrono::milliseconds kPrompt{500};

TEST_F(CoordinatorLinkTest, EndsPromptlyWithoutACoordinator) {
  auto link = std::make_unique<CoordinatorLink>(Options());
  link->Report(Notice("a"));
  const TimePoint begin = MonotonicNow();
  link.reset();
  EXPECT_LT(MonotonicNow() - begin, kPrompt);
}

TEST_F(CoordinatorLinkTest, EndsPromptlyWhileACallHangs) {
  Begin();
  coordinator_.Hang(true);
  auto link = std::make_unique<CoordinatorLink>(Options());
  link->Report(Notice("a"));
  ASSERT_TRUE(Await([&] { return link->connected(); }));
  const TimePoint begin = MonotonicNow();
  link.reset();
  EXPECT_LT(MonotonicNow() - begin, kPrompt);
}

}  // namespace
}  // namespace muster
