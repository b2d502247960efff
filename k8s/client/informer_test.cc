#include "k8s/client/informer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>

#include "k8s/client/testing/fake_server.h"
#include "runtime/base/thread_annotations.h"

namespace muster::k8s {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Pod(const std::string& name, int version) {
  return {{"metadata",
           {{"namespace", "ml"},
            {"name", name},
            {"uid", name},
            {"resourceVersion", std::to_string(version)}}}};
}

std::string List(const std::vector<json>& pods, int version) {
  return json{{"kind", "PodList"},
              {"metadata", {{"resourceVersion", std::to_string(version)}}},
              {"items", pods}}
      .dump();
}

std::string Event(const std::string& type, const json& object) {
  return json{{"type", type}, {"object", object}}.dump() + "\n";
}

// What an informer told, as "+a ~a -a" and "synced", to be waited for.
class Told {
 public:
  void Add(const WatchUpdate& update) {
    MutexLock lock(mutex_);
    for (const Change& change : update.changes) {
      const char* kind = change.kind == ChangeKind::kAdded      ? "+"
                         : change.kind == ChangeKind::kModified ? "~"
                                                                : "-";
      story_.push_back(
          fmt::format("{}{}", kind, (*change.object)["metadata"]["name"].get<std::string>()));
    }
    if (update.synced) story_.push_back("synced");
    if (!update.note.empty()) notes_.push_back(update.note);
    changed_.notify_all();
  }
  // The first `count` of them.
  std::vector<std::string> Await(size_t count) {
    MutexLock lock(mutex_);
    changed_.wait_for(mutex_, 60s, [&]() REQUIRES(mutex_) { return story_.size() >= count; });
    return story_;
  }
  std::vector<std::string> notes() {
    MutexLock lock(mutex_);
    return notes_;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::string> story_ GUARDED_BY(mutex_);
  std::vector<std::string> notes_ GUARDED_BY(mutex_);
};

class InformerTest : public ::testing::Test {
 protected:
  InformerTest() {
    ClientConfig config;
    config.cluster.server = server_.url();
    client_ = std::move(*ApiClient::Create(config, {.backoff = {.first = 1ms, .cap = 2ms}}));
    options_.resource = kPods;
    options_.namespace_name = "ml";
    options_.label_selector = "run=x";
    options_.times.backoff = {.first = 1ms, .cap = 2ms};
    options_.times.short_watch = 0ms;
    // What the test has not foreseen stays open until the end.
    server_.Otherwise([](FakeExchange& exchange) { exchange.AwaitClientGone(); });
  }

  void Start() {
    informer_ = std::make_unique<Informer>(
        client_.get(), options_, [this](const WatchUpdate& update) { told_.Add(update); });
  }
  // The next watch sends `pieces` and then does `end`.
  void ThenWatch(std::vector<std::string> pieces, std::function<void(FakeExchange&)> end) {
    server_.Then([pieces = std::move(pieces), end = std::move(end)](FakeExchange& exchange) {
      exchange.Start(200);
      for (const std::string& piece : pieces) exchange.Chunk(piece);
      end(exchange);
    });
  }
  static void Silence(FakeExchange& exchange) { exchange.AwaitClientGone(); }
  static void End(FakeExchange& exchange) { exchange.End(); }
  static void Cut(FakeExchange& exchange) { exchange.Close(); }
  std::string Target(size_t request) { return server_.requests().at(request).target; }

  Told told_;
  FakeServer server_;
  std::unique_ptr<ApiClient> client_;
  InformerOptions options_;
  std::unique_ptr<Informer> informer_;
};

TEST_F(InformerTest, TellsWhatIsThereAndWhatChanges) {
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  ThenWatch({Event("ADDED", Pod("b", 11)) + Event("MODIFIED", Pod("a", 12)),
             Event("DELETED", Pod("b", 13))},
            Silence);
  Start();
  EXPECT_THAT(told_.Await(5), ElementsAre("+a", "synced", "+b", "~a", "-b"));
  EXPECT_EQ(Target(0), "/api/v1/namespaces/ml/pods?labelSelector=run%3Dx&limit=500");
  EXPECT_EQ(Target(1),
            "/api/v1/namespaces/ml/pods?watch=true&allowWatchBookmarks=true&"
            "labelSelector=run%3Dx&resourceVersion=10&timeoutSeconds=300");
}

TEST_F(InformerTest, EventsMayBeSplitAnywhere) {
  server_.ThenAnswer(200, List({}, 10));
  std::vector<std::string> bytes;
  json pod = Pod("a", 11);
  pod["metadata"]["annotations"] = {{"größe", "日本 🙂 \"}{\""}};
  for (const char c : Event("ADDED", pod)) bytes.emplace_back(1, c);
  ThenWatch(bytes, Silence);
  Start();
  EXPECT_THAT(told_.Await(2), ElementsAre("synced", "+a"));
}

TEST_F(InformerTest, ACutInTheMiddleOfAnEventLosesNothing) {
  server_.ThenAnswer(200, List({}, 10));
  const std::string second = Event("ADDED", Pod("b", 12));
  ThenWatch({Event("ADDED", Pod("a", 11)), second.substr(0, 20)}, Cut);
  ThenWatch({second.substr(0, 30)}, End);
  ThenWatch({second}, Silence);
  Start();
  EXPECT_THAT(told_.Await(3), ElementsAre("synced", "+a", "+b"));
  EXPECT_THAT(Target(2), HasSubstr("resourceVersion=11"));
  EXPECT_THAT(Target(3), HasSubstr("resourceVersion=11"));
}

TEST_F(InformerTest, ASilentWatchIsReplaced) {
  options_.times.idle_timeout = 50ms;
  server_.ThenAnswer(200, List({}, 10));
  // On a slow machine the first watch may be replaced before its bookmark has come.
  server_.Otherwise([](FakeExchange& exchange) {
    const bool again = exchange.request().target.find("resourceVersion=15") != std::string::npos;
    exchange.Start(200);
    exchange.Chunk(again ? Event("ADDED", Pod("a", 16))
                         : Event("BOOKMARK", {{"metadata", {{"resourceVersion", "15"}}}}));
    exchange.AwaitClientGone();
  });
  Start();
  EXPECT_THAT(told_.Await(2), ElementsAre("synced", "+a"));
}

TEST_F(InformerTest, GoneListsAgainHoweverItIsSaid) {
  const json gone = {
      {"kind", "Status"}, {"code", 410}, {"reason", "Expired"}, {"message", "too old"}};
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  server_.ThenAnswer(410, gone.dump());
  server_.ThenAnswer(200, List({Pod("b", 12)}, 20));
  // What follows the error in the same piece counts for nothing.
  ThenWatch({Event("ERROR", gone) + Event("ADDED", Pod("ghost", 21))}, Silence);
  server_.ThenAnswer(200, List({Pod("b", 12), Pod("c", 22)}, 30));
  ThenWatch({Event("ADDED", Pod("d", 31))}, Silence);
  Start();
  EXPECT_THAT(told_.Await(8),
              ElementsAre("+a", "synced", "+b", "-a", "synced", "+c", "synced", "+d"));
}

TEST_F(InformerTest, ListsAgainOnATimer) {
  options_.times.relist_period = 50ms;
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  ThenWatch({}, Silence);
  server_.ThenAnswer(200, List({}, 20));
  Start();
  EXPECT_THAT(told_.Await(4), ElementsAre("+a", "synced", "-a", "synced"));
}

TEST_F(InformerTest, ListsAgainWhenAskedTo) {
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  ThenWatch({Event("ADDED", Pod("b", 11))}, Silence);
  server_.ThenAnswer(200, List({Pod("b", 11)}, 20));
  ThenWatch({Event("ADDED", Pod("c", 21))}, Silence);
  const TimePoint begin = MonotonicNow();
  Start();
  told_.Await(3);
  informer_->ListAgain();
  EXPECT_THAT(told_.Await(6), ElementsAre("+a", "synced", "+b", "-a", "synced", "+c"));
  EXPECT_LT(MonotonicNow() - begin, 30s) << "the silent watch was interrupted";
  EXPECT_THAT(told_.notes(), ::testing::IsEmpty());
}

TEST_F(InformerTest, AListThatIsWantedDoesNotWaitForAWatchThatDoesNotOpen) {
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  server_.Then(Silence);
  server_.ThenAnswer(200, List({}, 20));
  Start();
  ASSERT_TRUE(server_.AwaitRequests(2));
  informer_->ListAgain();
  EXPECT_THAT(told_.Await(4), ElementsAre("+a", "synced", "-a", "synced"));
  EXPECT_THAT(told_.notes(), ::testing::IsEmpty());
}

TEST_F(InformerTest, ErrorsOfEveryKindDeleteNothingAndAreNoted) {
  server_.ThenAnswer(403, R"({"kind":"Status","code":403,"message":"pods is forbidden"})");
  server_.ThenAnswer(200, "<html>sign in</html>");
  server_.ThenAnswer(200, List({Pod("a", 1)}, 10));
  ThenWatch({"<html>sign in</html>"}, End);
  server_.ThenAnswer(429, "", {"Retry-After: 0"});
  server_.ThenAnswer(500, "");
  server_.Then([](FakeExchange& exchange) { exchange.Close(); });
  ThenWatch({"{\"type\": \"ADDED\", nonsense}\n"}, Silence);
  ThenWatch({Event("ADDED", Pod("b", 11))}, Silence);
  Start();
  EXPECT_THAT(told_.Await(3), ElementsAre("+a", "synced", "+b"));
  const std::vector<std::string> notes = told_.notes();
  // One for each, but for the closed connection: on a kept one, the request may have been sent again at once.
  ASSERT_GE(notes.size(), 6U);
  EXPECT_THAT(notes[0],
              HasSubstr("cannot list: GET /api/v1/namespaces/ml/pods: 403: pods is forbidden"));
  EXPECT_THAT(notes[1], HasSubstr("the answer is no JSON"));
}

TEST_F(InformerTest, AnEventLargerThanAnyBufferComesWhole) {
  server_.ThenAnswer(200, List({}, 10));
  json pod = Pod("large", 11);
  pod["data"] = std::string(size_t{8} << 20, 'x');
  ThenWatch({Event("ADDED", pod) + Event("ADDED", Pod("next", 12))}, Silence);
  Start();
  EXPECT_THAT(told_.Await(3), ElementsAre("synced", "+large", "+next"));
}

TEST_F(InformerTest, EndsAtOnceWhateverItWaitsFor) {
  for (const int stage : {0, 1, 2, 3}) {
    const size_t before = server_.requests().size();
    if (stage >= 1) server_.ThenAnswer(200, List({}, 10));
    if (stage >= 2) ThenWatch({}, Silence);
    Start();
    ASSERT_TRUE(server_.AwaitRequests(before + (stage == 0 ? 1 : 2)));
    if (stage == 3) {  // in the second round of its waits
      informer_->ListAgain();
      ASSERT_TRUE(server_.AwaitRequests(before + 3));
    }
    const TimePoint begin = MonotonicNow();
    informer_.reset();
    EXPECT_LT(MonotonicNow() - begin, 20s) << stage;
  }
}

}  // namespace
}  // namespace muster::k8s
