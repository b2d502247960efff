#include "launcher/rendezvous/coordinator_shell.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "launcher/rendezvous/journal.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using nlohmann::json;
constexpr std::chrono::seconds kPatience{60};  // for machines that are very busy

// Remembers what went out, as short texts in order, and asks `check` at each order.
class FakeOutlet final : public JobOutlet {
 public:
  void Send(const SendOrder& order) override {
    if (on_order) on_order(order);
    if (order.order.kind == Order::Kind::kGeneration) {
      Add(fmt::format("{} generation {}", order.worker, order.order.generation.number));
    } else {
      Add(fmt::format("{} order {}", order.worker, static_cast<int>(order.order.kind)));
    }
  }
  void Send(const SendAgent& order) override {
    Add(fmt::format("agent {}{}", order.slot,
                    order.kind == SendAgent::Kind::kShutDownNow ? " now" : ""));
  }
  void Send(const SetSlots& slots) override {
    Add(fmt::format("slots {}", fmt::join(slots.slots, " ")));
  }
  void EventsChanged() override { Add("event"); }
  void Progress(const std::string& text) override {
    EXPECT_EQ(json::parse(text)["event"], "progress");
  }
  void Finished(const std::string& text) override {
    if (on_finished) on_finished();
    finished_json = text;
    Add("finished");
  }

  std::vector<std::string> All() {
    std::lock_guard lock(mutex_);
    return log_;
  }
  bool Has(const std::string& entry) {
    const auto all = All();
    return std::find(all.begin(), all.end(), entry) != all.end();
  }
  bool Await(const std::function<bool()>& condition) {
    const TimePoint deadline = MonotonicNow() + kPatience;
    while (!condition()) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(2));
      if (MonotonicNow() > deadline) return false;
    }
    return true;
  }

  std::function<void(const SendOrder&)> on_order;
  std::function<void()> on_finished;
  std::string finished_json;

 private:
  void Add(std::string entry) {
    {
      std::lock_guard lock(mutex_);
      log_.push_back(std::move(entry));
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> log_;
};

// A journal behind a door that a test shuts: what Append says then, and whether it takes its time to say so.
class DoorStore final : public StateStore {
 public:
  explicit DoorStore(StateStore& store) : store_(store) {}

  const std::optional<CoordinatorState>& state() const override { return store_.state(); }
  Status Append(const CoordinatorState& state) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !stuck_; });
    if (!shut_) return store_.Append(state);
    ++refused_;
    return tl::unexpected<Error>(*shut_);
  }

  void Shut(Error error) {
    std::lock_guard lock(mutex_);
    shut_ = std::move(error);
  }
  void Stick(bool stuck) {
    std::lock_guard lock(mutex_);
    stuck_ = stuck;
    changed_.notify_all();
  }
  void Open() {
    std::lock_guard lock(mutex_);
    shut_.reset();
  }
  int refused() {
    std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  StateStore& store_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Error> shut_;
  bool stuck_ = false;
  int refused_ = 0;
};

const Error kAway{Code::kUnavailable, "500 from the API server", "look at the API server"};

class ShellTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "muster-shell-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    Begin();
  }
  void TearDown() override {
    shell_.reset();
    journal_.reset();
    std::filesystem::remove_all(folder_);
  }

  // A coordinator process, as far as this class knows one; the one before is gone.
  void Begin() {
    shell_.reset();
    events_.reset();
    journal_.reset();
    auto journal = Journal::Open(folder_ / "journal");
    ASSERT_TRUE(journal) << journal.error().message;
    journal_ = std::move(*journal);
    events_ = std::make_unique<EventLog>(folder_ / "events.jsonl");
    CoordinatorOptions coordinator;
    coordinator.max_workers = 1;
    ShellOptions options{
        {"test", "local"}, coordinator, JobFolder(folder_), std::chrono::system_clock::now()};
    options.on_finished = [this](const std::string&) { ++finished_; };
    door_ = std::make_unique<DoorStore>(*journal_);
    shell_ = std::make_unique<CoordinatorShell>(options, *door_, *events_);
    outlet_ = std::make_unique<FakeOutlet>();
  }

  Status Submit(CoordinatorEvent event) {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<Status> answer;
    shell_->Submit(std::move(event),
                   [&](const Status& status) {
                     std::lock_guard lock(mutex);
                     answer = status;
                     changed.notify_all();
                   },
                   {});
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, kPatience, [&] { return answer.has_value(); }));
    return answer.value_or(Status());
  }
  static WorkerHello Worker() {
    Hello hello;
    hello.worker = "w-0";
    hello.incarnation = 1;
    hello.address = "somewhere";
    hello.micro_batches = hello.batch_size = 16;
    hello.total_steps = 400;
    return WorkerHello{hello};
  }
  static WorkerReported FinishedReport() {
    Report report;
    report.kind = Report::Kind::kFinished;
    report.worker = "w-0";
    report.incarnation = 1;
    report.generation = 1;
    report.step = 400;
    report.has_state = true;
    report.result = RunResult{400, 0.25, "abcd", 102'400, 0, {{"accuracy", 0.97}}, false};
    return WorkerReported{report};
  }
  json File(const char* name) { return json::parse(*ReadFile(folder_ / name)); }

  std::filesystem::path folder_;
  // How often an event of that kind has been told that says so.
  int Told(const std::string& kind, const std::string& text) {
    int count = 0;
    for (const std::string& line : events_->Read(1, 1000)) {
      const json event = json::parse(line);
      const auto message = event["message"].get<std::string>();
      count += event["kind"] == kind && message.find(text) != message.npos ? 1 : 0;
    }
    return count;
  }

  std::unique_ptr<Journal> journal_;
  std::unique_ptr<DoorStore> door_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<FakeOutlet> outlet_;
  std::unique_ptr<CoordinatorShell> shell_;
  std::atomic<int> finished_{0};
};

TEST_F(ShellTest, BeginsWithTheSlots) {
  shell_->Start(*outlet_);
  EXPECT_TRUE(outlet_->Await([&] { return outlet_->Has("slots w-0"); }));
}

TEST_F(ShellTest, CarriesOutWhatTheCoreWantedBeforeTheFirstEvent) {
  shell_->Submit(Worker(), {}, {});
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("w-0 generation 1"); }));
  EXPECT_EQ(outlet_->All().front(), "slots w-0");
}

TEST_F(ShellTest, GivesAwayAGenerationOnlyWhenItIsOnDisk) {
  std::atomic<int> orders{0};
  outlet_->on_order = [&](const SendOrder& order) {
    ++orders;
    ASSERT_TRUE(journal_->content().state);
    EXPECT_EQ(journal_->content().state->last_generation, order.order.generation.number);
    EXPECT_NE(ReadFile(folder_ / "journal")->find("\"last_generation\":1"), std::string::npos);
  };
  shell_->Start(*outlet_);
  ASSERT_TRUE(Submit(Worker()));
  EXPECT_EQ(orders, 1) << "the answer came before the order";
}

TEST_F(ShellTest, DropsAnEventThatSomethingNewerHasOvertaken) {
  shell_->Start(*outlet_);
  shell_->Submit(Worker(), {}, [] { return false; });
  ASSERT_TRUE(Submit(StopRequested{true, "enough"}));
  EXPECT_FALSE(outlet_->Has("w-0 generation 1"));
}

TEST_F(ShellTest, WritesResultAndStatusBeforeItTellsTheEnd) {
  outlet_->on_finished = [&] {
    EXPECT_TRUE(std::filesystem::exists(folder_ / "result.json"));
    EXPECT_EQ(File("status.json")["phase"], "succeeded");
  };
  shell_->Start(*outlet_);
  ASSERT_TRUE(Submit(Worker()));
  ASSERT_TRUE(Submit(FinishedReport()));
  ASSERT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("slots "); }));
  const std::vector<std::string> all = outlet_->All();
  EXPECT_LT(std::find(all.begin(), all.end(), "finished"),
            std::find(all.begin(), all.end(), "w-0 order 3"))
      << "nobody leaves before the result is safe";
  const json result = File("result.json");
  EXPECT_EQ(result, json::parse(outlet_->finished_json));
  EXPECT_EQ(result["phase"], "succeeded");
  EXPECT_EQ(result["weights"], "abcd");
  EXPECT_EQ(result["step"], 400);
  EXPECT_EQ(result["exit_code"], 0);
  EXPECT_EQ(result["generations"], 1);
  EXPECT_EQ(File("status.json")["phase"], "succeeded");
  EXPECT_FALSE(shell_->CheckResize(1, 1));
}

TEST_F(ShellTest, RefusesAResizeWithTheCoresSentence) {
  shell_->Start(*outlet_);
  EXPECT_TRUE(shell_->CheckResize(1, 3));
  const Status refused = shell_->CheckResize(3, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("3:1"), std::string::npos);
  // Before a worker has told how many there may be, a slot for each would fill the memory.
  EXPECT_TRUE(shell_->CheckResize(1, kMaxWorkers));
  EXPECT_EQ(shell_->CheckResize(1, INT_MAX).error().message,
            "2147483647 workers are more than the 4096 that a job may have");
}

TEST_F(ShellTest, KeepsStatusJsonFresh) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return std::filesystem::exists(folder_ / "status.json"); }));
  EXPECT_EQ(File("status.json")["phase"], "pending");
  ASSERT_TRUE(Submit(Worker()));
  EXPECT_TRUE(outlet_->Await([&] { return File("status.json")["generation"] == 1; }));
  EXPECT_EQ(json::parse(shell_->StatusText())["generation"], 1);
}

TEST_F(ShellTest, AnswersUnavailableAfterStop) {
  shell_->Start(*outlet_);
  shell_->Stop();
  const Status answer = Submit(Worker());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::kUnavailable);
}

TEST_F(ShellTest, AnswersEverySubmitAcrossAStop) {
  shell_->Start(*outlet_);
  std::atomic<int> answers{0};
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kEach; ++i)
          shell_->Submit(Worker(), [&](const Status&) { ++answers; }, {});
      });
    }
    shell_->Stop();
  }
  EXPECT_EQ(answers, kThreads * kEach);
}

TEST_F(ShellTest, GoesOnWhereAFormerCoordinatorStopped) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(Submit(Worker()));
  const uint64_t events = events_->next_sequence();
  Begin();
  shell_->Start(*outlet_);
  WorkerHello again = Worker();
  again.hello.generation = 1;
  ASSERT_TRUE(Submit(again));
  EXPECT_FALSE(outlet_->Has("w-0 generation 2")) << "nobody was lost";
  EXPECT_EQ(json::parse(shell_->StatusText())["generation"], 1);
  EXPECT_TRUE(outlet_->Await([&] { return events_->next_sequence() > events; }));
  ASSERT_TRUE(Submit(FinishedReport()));
  EXPECT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
}

// A limit on the size of files stands for a full disk.
class FullDisk {
 public:
  FullDisk() {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(ShellTest, FailsTheJobRatherThanGiveAwayAGenerationThatIsNotOnDisk) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("slots w-0"); }));
  {
    const FullDisk full;
    ASSERT_TRUE(Submit(Worker()));
    ASSERT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
  }
  EXPECT_FALSE(outlet_->Has("w-0 generation 1"));
  EXPECT_TRUE(outlet_->Await([&] { return outlet_->Has("slots "); }));
  EXPECT_TRUE(outlet_->Has("agent w-0 now"));
  const json finished = json::parse(outlet_->finished_json);
  EXPECT_EQ(finished["phase"], "failed");
  EXPECT_EQ(finished["exit_code"], 1);
  EXPECT_NE(finished["message"].get<std::string>().find("generation 1 could not be recorded"),
            std::string::npos);
  EXPECT_NE(finished["message"].get<std::string>().find("free some space"), std::string::npos);
  EXPECT_EQ(json::parse(shell_->StatusText())["phase"], "failed");
}

TEST_F(ShellTest, TrainsOnWithAFullDiskWhenNoGenerationIsNeeded) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(Submit(Worker()));
  {
    const FullDisk full;
    ASSERT_TRUE(Submit(StopRequested{false, "enough"}));  // persisted in vain
    EXPECT_TRUE(outlet_->Has("w-0 order 1"));
    EXPECT_EQ(finished_, 0);
  }
  // The state is written when there is room again.
  EXPECT_TRUE(outlet_->Await([&] {
    return ReadFile(folder_ / "journal")->find("\"stop_requested\":true") != std::string::npos;
  }));
  ASSERT_TRUE(Submit(FinishedReport()));
  ASSERT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
  EXPECT_EQ(File("result.json")["exit_code"], 0);
  const auto lines = events_->Read(1, 100);
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find("journal-failed") != line.npos;
  }));
}

TEST_F(ShellTest, AGenerationWaitsAsLongAsTheStoreIsAwayAndNotesAreToldMeanwhile) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("slots w-0"); }));
  door_->Shut(kAway);
  bool answered = false;
  std::mutex mutex;
  shell_->Submit(Worker(),
                 [&](const Status&) {
                   std::lock_guard lock(mutex);
                   answered = true;
                 },
                 {});
  ASSERT_TRUE(outlet_->Await([&] { return door_->refused() >= 2; }));
  EXPECT_EQ(Told("journal-failed",
                 "generation 1 waits until it is recorded: 500 from the API "
                 "server; look at the API server"),
            1);
  ASSERT_TRUE(Submit(PlatformNoted{"api-fault", "record of the run: 500"}));
  EXPECT_EQ(Told("api-fault", "record of the run"), 1);
  EXPECT_FALSE(outlet_->Has("w-0 generation 1"));
  EXPECT_EQ(finished_, 0);
  {
    std::lock_guard lock(mutex);
    EXPECT_FALSE(answered);
  }
  EXPECT_NE(shell_->StatusText().find("not recorded yet"), std::string::npos);

  door_->Open();
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("w-0 generation 1"); }));
  EXPECT_TRUE(outlet_->Await([&] { return Told("journal-works", "again") == 1; }));
  EXPECT_TRUE(outlet_->Await([&] {
    std::lock_guard lock(mutex);
    return answered;
  }));
  ASSERT_TRUE(Submit(FinishedReport()));
  EXPECT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
}

TEST_F(ShellTest, WhatWaitsForTheStoreIsAnsweredAtTheEnd) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("slots w-0"); }));
  door_->Shut(kAway);
  std::atomic<int> stopped{0};
  const auto count = [&](const Status& status) {
    stopped += !status && status.error().code == Code::kUnavailable ? 1 : 0;
  };
  shell_->Submit(Worker(), count, {});
  shell_->Submit(ResizeRequested{1, 2}, count, {});
  ASSERT_TRUE(outlet_->Await([&] { return door_->refused() >= 1; }));
  shell_->Stop();
  EXPECT_EQ(stopped, 2);
}

TEST_F(ShellTest, TheHintOfAStoreThatCannotKeepAGenerationIsTheStores) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(outlet_->Await([&] { return outlet_->Has("slots w-0"); }));
  door_->Shut({Code::kInvalidArgument, "too large", "start with fewer workers"});
  ASSERT_TRUE(Submit(Worker()));
  ASSERT_TRUE(outlet_->Await([&] { return finished_ == 1; }));
  const json finished = json::parse(outlet_->finished_json);
  EXPECT_EQ(finished["message"],
            "generation 1 could not be recorded: too large; start with fewer workers");
}

// The answer to its report comes late then, and with it its next sign of life.
TEST_F(ShellTest, NobodyIsGivenUpWhileTheStoreTakesLong) {
  shell_->Start(*outlet_);
  ASSERT_TRUE(Submit(Worker()));
  door_->Stick(true);
  shell_->Submit(ResizeRequested{1, 2}, {}, {});
  const TimePoint end = MonotonicNow() + std::chrono::seconds(4);  // more than the time-out
  EXPECT_TRUE(outlet_->Await([&] {
    shell_->Submit(Tick{}, {}, {});
    return MonotonicNow() > end;
  }));
  door_->Stick(false);
  ASSERT_TRUE(Submit(PlatformNoted{"note", "after all of that"}));
  EXPECT_EQ(Told("resize", "requested"), 1);
  EXPECT_EQ(Told("evicted", ""), 0);
  EXPECT_TRUE(outlet_->Await([&] { return Told("evicted", "w-0 was silent") == 1; }))
      << "then again";
}

}  // namespace
}  // namespace muster
