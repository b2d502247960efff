#include "launcher/platform/kubernetes/remote_run.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <thread>

#include "k8s/client/testing/fake_server.h"
#include "launcher/platform/kubernetes/event_listener.h"
#include "launcher/platform/kubernetes/pod_logs.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kSecret(64, 'a');
constexpr const char* kProxy = "/api/v1/namespaces/lab/services/http:demo-01234:http/proxy/v1/";

JobSpec Spec(const std::string& id = "0123456789abcdef0123456789abcdef") {
  JobSpec spec;
  spec.name = "demo";
  spec.id = id;
  spec.executable = "/bin/true";
  spec.argv = {"/bin/true"};
  spec.cwd = "/";
  return spec;
}

json RunMap(const JobSpec& spec, const std::string& uid, json data = json::object()) {
  data["job.json"] = spec.ToJson();
  return {{"kind", "ConfigMap"},
          {"metadata", {{"name", "demo-" + spec.id.substr(0, 5)}, {"uid", uid}}},
          {"data", data}};
}

std::string NotFound() {
  return json{{"kind", "Status"}, {"code", 404}, {"reason", "NotFound"}, {"message", "gone"}}
      .dump();
}

k8s::Call Soon() { return {.deadline = MonotonicNow() + 60s, .retry = false}; }

class RemoteRunTest : public testing::Test {
 protected:
  void SetUp() override {
    k8s::ClientConfig config;
    config.cluster.server = server_.url();
    run_.emplace(*k8s::ApiClient::Create(std::move(config), {.http2 = false}), "lab", Spec(), "u-1",
                 kSecret);
    server_.Otherwise([this](FakeExchange& exchange) {
      const std::string target = exchange.request().target;
      const std::string path = target.substr(0, target.find('?'));
      Handler handler;
      {
        MutexLock lock(mutex_);
        if (answers_.contains(path)) handler = answers_[path];
      }
      if (handler) return handler(exchange);
      exchange.Answer(404, NotFound());
    });
  }

  using Handler = k8s::FakeServer::Handler;

  // What a request for `path` gets; 404 if nothing is said.
  void At(const std::string& path, Handler handler) {
    MutexLock lock(mutex_);
    answers_[path] = std::move(handler);
  }
  void At(const std::string& path, int status, const json& body) {
    At(path,
       [status, text = body.dump()](FakeExchange& exchange) { exchange.Answer(status, text); });
  }
  void Forget() {
    MutexLock lock(mutex_);
    answers_.clear();
  }
  void AtMap(const json& map) { At("/api/v1/namespaces/lab/configmaps/demo-01234", 200, map); }
  void AtLists() {
    for (const char* kind : {"pods", "events"}) {
      At(fmt::format("/api/v1/namespaces/lab/{}", kind), 200, {{"items", json::array()}});
    }
  }

  // All of this outlives the server.
  Mutex mutex_;
  std::map<std::string, Handler> answers_ GUARDED_BY(mutex_);
  std::atomic<int> streams_ = 0;
  k8s::FakeServer server_;
  std::optional<RemoteRun> run_;
};

TEST_F(RemoteRunTest, ShowsTheSecretToTheCoordinatorOnly) {
  At(std::string(kProxy) + "status", 200, {{"step", 7}});
  AtMap(RunMap(Spec(), "u-1"));
  AtLists();
  EXPECT_EQ(run_->Status(Soon())->at("step"), 7);
  ASSERT_TRUE(run_->Look(Soon()));
  for (const k8s::FakeRequest& request : server_.requests()) {
    EXPECT_EQ(request.headers.contains("x-muster-secret"), request.target.starts_with(kProxy))
        << request.target;
  }
  EXPECT_EQ(server_.requests().front().headers.at("x-muster-secret"), kSecret);
}

TEST_F(RemoteRunTest, HandsOnWhatTheCoordinatorRefusesWithItsHint) {
  At(std::string(kProxy) + "resize", 409,
     {{"error", "the job has ended"}, {"code", "failed precondition"}, {"hint", "look"}});
  const auto answer = run_->Resize({2, 8}, Soon());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::kFailedPrecondition);
  EXPECT_THAT(answer.error().message, HasSubstr("the job has ended"));
  EXPECT_EQ(answer.error().hint, "look");
  EXPECT_EQ(server_.requests().front().body, R"({"max":8,"min":2})");
}

TEST_F(RemoteRunTest, TellsAnswersOfTheApiServerFromThoseOfTheCoordinator) {
  At(std::string(kProxy) + "stop", 503,
     {{"kind", "Status"}, {"code", 503}, {"message", "no endpoints available"}});
  EXPECT_EQ(run_->Stop(false, "x", Soon()).error().code, Code::kUnavailable);
  At(std::string(kProxy) + "stop", [](FakeExchange& exchange) { exchange.Answer(502, "<html>"); });
  EXPECT_EQ(run_->Stop(false, "x", Soon()).error().code, Code::kUnavailable);
}

TEST_F(RemoteRunTest, SeesThatTheRunIsGoneOrAnother) {
  AtLists();
  EXPECT_TRUE(run_->Look(Soon())->gone);
  AtMap(RunMap(Spec(), "u-2"));
  EXPECT_TRUE(run_->Look(Soon())->gone);
  AtMap(RunMap(Spec(), "u-1", {{"epoch", "1"}, {"status", "{}"}, {"events", "e"}}));
  const RunLook look = *run_->Look(Soon());
  EXPECT_FALSE(look.gone);
  EXPECT_TRUE(look.started);
  EXPECT_EQ(look.finished, std::nullopt);
  EXPECT_EQ(look.events, "e");
}

TEST_F(RemoteRunTest, ALookThatFailsIsNoRunThatIsGone) {
  At("/api/v1/namespaces/lab/configmaps/demo-01234", 403, {{"kind", "Status"}, {"code", 403}});
  AtLists();
  EXPECT_EQ(run_->Look(Soon()).error().code, Code::kPermissionDenied);
}

TEST_F(RemoteRunTest, ListsRunsTheYoungestFirstWithoutWhatIsNone) {
  JobSpec young = Spec("fedcba9876543210fedcba9876543210");
  young.created_ms = 5;
  json foreign = RunMap(Spec(), "u-3");
  foreign["metadata"]["name"] = "something-else";
  At("/api/v1/namespaces/lab/configmaps", 200,
     {{"items",
       {RunMap(Spec(), "u-1"), foreign, {{"data", 7}}, RunMap(young, "u-2", {{"result", "{}"}})}}});
  const auto runs = ListRuns(run_->api(), "lab", "demo", Soon());
  ASSERT_EQ(runs->size(), 2U);
  EXPECT_EQ(runs->at(0).uid, "u-2");
  EXPECT_EQ(runs->at(0).finished, "{}");
  EXPECT_EQ(runs->at(1).uid, "u-1");
  EXPECT_THAT(server_.requests().front().target, HasSubstr("muster.dev%2Fjob%3Ddemo"));
}

TEST_F(RemoteRunTest, RemovesNoRunButItsOwn) {
  AtMap(RunMap(Spec("ffffffffffffffffffffffffffffffff"), "u-9"));
  EXPECT_TRUE(RemoveRun(run_->api(), "lab", Spec(), ""));
  ASSERT_EQ(server_.requests().size(), 1U) << "it has looked and left it alone";
  Forget();
  EXPECT_TRUE(RemoveRun(run_->api(), "lab", Spec(), "u-1")) << "it is gone already";
  EXPECT_EQ(json::parse(server_.requests().back().body)["preconditions"]["uid"], "u-1");
}

// What a core was told until it was over.
std::vector<std::string> Listen(const RemoteRun& run, uint64_t after) {
  const auto inbox = *Inbox::Create();
  std::jthread listening([&](const std::stop_token& stop) {
    EventListener(run, after, *inbox, [](const std::string&) {}).Listen(stop);
  });
  FollowCore core(after);
  std::vector<std::string> told;
  for (const TimePoint end = MonotonicNow() + 60s; MonotonicNow() < end;) {
    for (const News& news : inbox->Take()) {
      for (const FollowAction& action : news(core)) {
        told.push_back(action.text);
        if (action.kind == FollowAction::Kind::kEnd) return told;
      }
    }
    pollfd wait = {inbox->fd(), POLLIN, 0};
    ::poll(&wait, 1, 100);
  }
  return told;
}

TEST_F(RemoteRunTest, AsksForTheRestOfEventsThatWereCut) {
  const auto event = [](int number) { return fmt::format(R"({{"sequence":{}}})", number); };
  At(std::string(kProxy) + "events", [this, event](FakeExchange& exchange) {
    exchange.Start(200);
    if (++streams_ == 1) {
      exchange.Chunk(event(3) + "\n\n" + event(4).substr(0, 5));
      exchange.Close();  // in the middle of a line
      return;
    }
    exchange.Chunk(event(4) + "\n");
    exchange.Chunk(R"({"event":"finished"})"
                   "\n");
    exchange.End();
  });
  const auto told = Listen(*run_, 2);
  EXPECT_THAT(told, ElementsAre(event(3), HasSubstr("was cut"), "the coordinator answers again",
                                event(4), HasSubstr("finished")));
  std::vector<std::string> asked;
  for (const k8s::FakeRequest& request : server_.requests()) {
    if (request.target.find("/events") != std::string::npos) asked.push_back(request.target);
  }
  EXPECT_THAT(asked, ElementsAre(HasSubstr("?after=2&follow=1"), HasSubstr("?after=3&follow=1")));
}

TEST(SplitTime, TakesTheTimeOffALine) {
  const TimedLine line = SplitTime("2026-01-01T00:00:00.123456789Z 2026-01-01T00:00:00.1 info x");
  EXPECT_EQ(line.time, "2026-01-01T00:00:00.123456789Z");
  EXPECT_EQ(line.text, "2026-01-01T00:00:00.1 info x");
  for (const char* bare : {"", "no time here", "2026-01-01 T", "12345678901234567890 x"}) {
    EXPECT_EQ(SplitTime(bare).time, "");
    EXPECT_EQ(SplitTime(bare).text, bare);
  }
}

TEST(LineOf, KnowsWhoseItIsInAPodWithSeveralWorkers) {
  const auto parts = [](const char* line) {
    const LogLine of = LineOf("workers-7", line);
    return of.id + "|" + of.text;
  };
  EXPECT_EQ(parts("[workers-7-1] step 3 [x] y"), "workers-7-1|step 3 [x] y");
  EXPECT_EQ(parts("[workers-71] no"), "workers-7|[workers-71] no");
  EXPECT_EQ(parts("[workers-7-1]"), "workers-7|[workers-7-1]");
  EXPECT_EQ(parts("agent=enrolled"), "workers-7|agent=enrolled");
}

TEST_F(RemoteRunTest, MergesLogsByTheirTimes) {
  const auto log = [&](const char* pod, const std::string& text) {
    At(fmt::format("/api/v1/namespaces/lab/pods/{}/log", pod),
       [text](FakeExchange& exchange) { exchange.Answer(200, text); });
  };
  log("p1", "2026-01-01T00:00:01.0Z a\n2026-01-01T00:00:03.0Z c\n");
  log("p2", "2026-01-01T00:00:02.0Z b\n2026-01-01T00:00:04.0Z cut");
  std::vector<std::string> failed;
  std::string text;
  for (const LogLine& line :
       ReadLogs(*run_, {{"w-1", "p1"}, {"w-2", "p2"}, {"w-3", "p3"}}, &failed)) {
    text += line.id + line.text + " ";
  }
  EXPECT_EQ(text, "w-1a w-2b w-1c w-2cut ");
  EXPECT_THAT(failed, ElementsAre(HasSubstr("the log of w-3")));
}

TEST_F(RemoteRunTest, FollowsALogUntilItEnds) {
  At("/api/v1/namespaces/lab/pods/p1/log", [](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.Chunk("one\ntw");
    exchange.Chunk("o\nrest");
    exchange.End();
  });
  LogFollower follower(*run_);
  follower.Add({{"w-1", "p1"}});
  std::vector<std::string> lines;
  for (const TimePoint end = MonotonicNow() + 60s; !follower.AllEnded() && MonotonicNow() < end;) {
    for (LogLine& line : follower.Take(MonotonicNow() + 10ms)) lines.push_back(line.text);
  }
  EXPECT_THAT(lines, ElementsAre("one", "two", "rest"));
}

TEST_F(RemoteRunTest, EndsInTheMiddleOfALogThatNobodyEnds) {
  At("/api/v1/namespaces/lab/pods/p1/log", [](FakeExchange& exchange) {
    exchange.Start(200);
    exchange.Chunk("one\n");
    exchange.AwaitClientGone();
  });
  LogFollower follower(*run_);
  follower.Add({{"w-1", "p1"}});
  EXPECT_THAT(follower.Take(MonotonicNow() + 60s), testing::SizeIs(1));
  EXPECT_FALSE(follower.AllEnded());
}

}  // namespace
}  // namespace muster::kubernetes
