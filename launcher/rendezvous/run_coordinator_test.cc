// Real coordinator processes: this program starts itself with "serve FOLDER" for each.
#include "launcher/rendezvous/run_coordinator.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/gateway/testing/test_client.h"
#include "launcher/job/job.h"
#include "launcher/rendezvous/await_test_util.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/time.h"
#include "runtime/rpc/coordinator_link.h"

extern char** environ;

namespace muster {
namespace {

using nlohmann::json;
class Process {
 public:
  explicit Process(const std::filesystem::path& folder) {
    std::string self = "/proc/self/exe";
    std::string verb = "serve";
    std::string path = folder.string();
    char* argv[] = {self.data(), verb.data(), path.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, self.c_str(), nullptr, nullptr, argv, environ), 0);
  }
  ~Process() {
    if (pid_ > 0) Kill();
  }
  void Signal(int signal) const { ::kill(pid_, signal); }
  void Kill() {
    Signal(SIGKILL);
    Wait();
  }
  // The exit code, or minus the signal.
  int Wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// A worker that follows generations and trains nothing.
class FakeWorker {
 public:
  FakeWorker(const JobFolder& folder, const JobSpec& spec, const std::string& secret,
             const std::string& id)
      : id_(id),
        link_({folder.root(), spec.id, secret, [this] { return MakeHello(); },
               [this](const Order& order) { On(order); }}) {
    link_.SetProgressSource([this] { return MakeReport(Report::Kind::kProgress); },
                            std::chrono::milliseconds(20));
  }
  void Finish() {
    Report report = MakeReport(Report::Kind::kFinished);
    report.result = RunResult{400, 0.5, "0123", 102'400, 0, {}, false};
    link_.Report(report);
  }
  uint64_t generation() const { return generation_; }
  bool released() const { return released_; }
  bool connected() const { return link_.connected(); }

 private:
  Hello MakeHello() const {
    Hello hello;
    hello.worker = id_;
    hello.incarnation = 1;
    hello.micro_batches = hello.batch_size = 16;
    hello.total_steps = 400;
    hello.generation = generation_;
    hello.has_state = generation_ > 0;
    return hello;
  }
  Report MakeReport(Report::Kind kind) const {
    Report report;
    report.kind = kind;
    report.worker = id_;
    report.incarnation = 1;
    report.generation = generation_;
    report.step = 400;
    report.has_state = true;
    report.waiting = true;
    return report;
  }
  void On(const Order& order) {
    if (order.kind == Order::Kind::kGeneration) generation_ = order.generation.number;
    if (order.kind == Order::Kind::kRelease) released_ = true;
  }

  const std::string id_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<bool> released_{false};
  CoordinatorLink link_;
};

class RunCoordinatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name =
        (std::filesystem::temp_directory_path() / "muster-coordinator-XXXXXX").string();
    folder_ = JobFolder(::mkdtemp(name.data()));
    spec_.name = "test";
    spec_.id = std::string(32, 'a');
    spec_.executable = "/bin/true";
    spec_.argv = {"true"};
    spec_.cwd = "/";
    spec_.min_workers = spec_.max_workers = 2;
    spec_.created_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
    ASSERT_TRUE(folder_.WriteSpec(spec_));
    ASSERT_TRUE(folder_.WriteSecret(secret_));
  }
  void TearDown() override { std::filesystem::remove_all(folder_.root()); }

  bool IsReady(const Process& process) {
    const auto address = folder_.ReadCoordinator();
    return address && address->pid == process.pid();
  }
  std::unique_ptr<FakeWorker> Worker(const std::string& id) {
    return std::make_unique<FakeWorker>(folder_, spec_, secret_, id);
  }

  JobFolder folder_{""};
  JobSpec spec_;
  const std::string secret_ = std::string(64, 'b');
};

TEST_F(RunCoordinatorTest, IsThereQuickly) {
  const TimePoint begin = MonotonicNow();
  Process coordinator(folder_.root());
  ASSERT_TRUE(Await([&] { return IsReady(coordinator); }));
  const double milliseconds = Milliseconds(MonotonicNow() - begin);
  RecordProperty("ready_ms", fmt::format("{:.1f}", milliseconds));
  std::printf("ready after %.1f ms\n", milliseconds);
}

TEST_F(RunCoordinatorTest, SeesAJobThroughToItsResult) {
  Process coordinator(folder_.root());
  auto first = Worker("w-0");
  auto second = Worker("w-1");
  ASSERT_TRUE(Await([&] { return first->generation() == 1 && second->generation() == 1; }));
  first->Finish();
  second->Finish();
  ASSERT_TRUE(Await([&] { return first->released() && second->released(); }));
  first.reset();
  second.reset();
  EXPECT_EQ(coordinator.Wait(), 0);
  const json result = json::parse(*ReadFile(folder_.result()));
  EXPECT_EQ(result["phase"], "succeeded");
  EXPECT_EQ(result["weights"], "0123");
  EXPECT_EQ(json::parse(*ReadFile(folder_.status()))["phase"], "succeeded");
  Process again(folder_.root());
  EXPECT_EQ(again.Wait(), 0) << "a job that has its result needs no coordinator";
}

TEST_F(RunCoordinatorTest, ComesBackAfterAKillOnTheSamePortWithTheSameGeneration) {
  auto coordinator = std::make_unique<Process>(folder_.root());
  auto first = Worker("w-0");
  auto second = Worker("w-1");
  ASSERT_TRUE(Await([&] { return first->generation() == 1 && second->generation() == 1; }));
  const std::string address = folder_.ReadCoordinator()->address;
  for (int round = 0; round < 3; ++round) {
    coordinator->Kill();
    ASSERT_TRUE(Await([&] { return !first->connected() && !second->connected(); }));
    coordinator = std::make_unique<Process>(folder_.root());
    ASSERT_TRUE(
        Await([&] { return IsReady(*coordinator) && first->connected() && second->connected(); }));
    EXPECT_EQ(folder_.ReadCoordinator()->address, address);
  }
  first->Finish();
  second->Finish();
  ASSERT_TRUE(Await([&] { return first->released() && second->released(); }));
  EXPECT_EQ(first->generation(), 1u) << *ReadFile(folder_.events());
  first.reset();
  second.reset();
  EXPECT_EQ(coordinator->Wait(), 0);
  std::string events = *ReadFile(folder_.events());
  uint64_t expected = 0;
  for (size_t end = events.find('\n'); end != events.npos;
       events.erase(0, end + 1), end = events.find('\n')) {
    EXPECT_EQ(json::parse(events.substr(0, end))["sequence"], ++expected)
        << "events go on where they stopped";
  }
  EXPECT_GE(expected, 4u);
}

TEST_F(RunCoordinatorTest, LeavesTheJobToTheNextOneOnSigterm) {
  Process coordinator(folder_.root());
  ASSERT_TRUE(Await([&] { return IsReady(coordinator); }));
  auto worker = Worker("w-0");
  ASSERT_TRUE(Await([&] { return worker->connected(); }));
  coordinator.Signal(SIGINT);
  coordinator.Signal(SIGHUP);
  coordinator.Signal(SIGTERM);
  EXPECT_EQ(coordinator.Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(folder_.result()));
}

TEST_F(RunCoordinatorTest, ServesHttpOnlyIfTheFolderAsksForIt) {
  {
    Process coordinator(folder_.root());
    ASSERT_TRUE(Await([&] { return IsReady(coordinator); }));
    EXPECT_EQ(folder_.ReadCoordinator()->gateway, "");
  }
  ASSERT_TRUE(WriteFileAtomically(folder_.gateway(), "127.0.0.1:0\n"));
  Process coordinator(folder_.root());
  ASSERT_TRUE(Await([&] { return IsReady(coordinator); }));
  const std::string place = folder_.ReadCoordinator()->gateway;
  ASSERT_TRUE(place.starts_with("127.0.0.1:")) << place;
  const int port = std::stoi(place.substr(place.find(':') + 1));
  TestClient follower(port);
  follower.Ask("GET", "/v1/events?follow=1", "", secret_);
  EXPECT_EQ(follower.ReadHead(), 200);
  TestClient client(port);
  client.Ask("GET", "/v1/status", "", std::string(64, 'c'));
  EXPECT_EQ(client.ReadAnswer(), 401);
  client.Ask("GET", "/v1/status", "", secret_);
  EXPECT_EQ(client.ReadAnswer(), 200);
  EXPECT_EQ(json::parse(client.body)["max_workers"], 2);
  EXPECT_TRUE(Await([&] {  // coordinator.json is there a moment before it is said
    client.Ask("GET", "/readyz");
    return client.ReadAnswer() == 200;
  }));
  client.Ask("POST", "/v1/stop", R"({"now":true})", secret_);
  EXPECT_EQ(client.ReadAnswer(), 200);
  std::string last;
  for (std::string chunk = follower.ReadChunk(); !chunk.empty(); chunk = follower.ReadChunk()) {
    ASSERT_NE(chunk, "cut");
    if (chunk != "\n") last = chunk;
  }
  EXPECT_EQ(json::parse(last)["event"], "finished");
  EXPECT_EQ(coordinator.Wait(), 0);
}

TEST_F(RunCoordinatorTest, FailsIfItCannotServeHttpWhereItShould) {
  ASSERT_TRUE(WriteFileAtomically(folder_.gateway(), "nowhere:80\n"));
  Process coordinator(folder_.root());
  EXPECT_EQ(coordinator.Wait(), 1);
}

TEST_F(RunCoordinatorTest, RefusesToRunTwice) {
  Process coordinator(folder_.root());
  ASSERT_TRUE(Await([&] { return IsReady(coordinator); }));
  Process second(folder_.root());
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_TRUE(IsReady(coordinator)) << "the address of the first one stays";
}

TEST_F(RunCoordinatorTest, FailsWithoutItsFiles) {
  std::filesystem::remove(folder_.secret());
  Process coordinator(folder_.root());
  EXPECT_EQ(coordinator.Wait(), 1);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "serve") {
    muster::InitLog("coordinator", "warn");
    return muster::RunCoordinator(argv[2]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
