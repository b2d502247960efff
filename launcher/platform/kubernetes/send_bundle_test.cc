#include "launcher/platform/kubernetes/send_bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <optional>
#include <set>
#include <thread>

#include "k8s/client/testing/fake_server.h"
#include "launcher/bundle/testing/bundle_folder.h"
#include "runtime/base/thread_annotations.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::FakeExchange;
using nlohmann::json;
using testing::HasSubstr;
using testing::MatchesRegex;

JobSpec Spec() {
  JobSpec spec;
  spec.name = "demo";
  spec.id = "0123456789abcdef0123456789abcdef";
  return spec;
}

// A coordinator that keeps chunks, behind an API server.
class SendBundleTest : public testing::Test {
 protected:
  void SetUp() override {
    k8s::ClientConfig config;
    config.cluster.server = server_.url();
    run_.emplace(*k8s::ApiClient::Create(std::move(config), {.http2 = false}), "lab", Spec(), "u-1",
                 std::string(64, 'a'));
    server_.Otherwise([this](FakeExchange& exchange) { Answer(exchange); });
  }

  void Answer(FakeExchange& exchange) {
    const std::string& target = exchange.request().target;
    MutexLock lock(mutex_);
    if (refuse_next_ > 0) {
      --refuse_next_;
      exchange.Answer(503, json{{"kind", "Status"}, {"code", 503}}.dump());
    } else if (target.ends_with("/v1/bundle")) {
      exchange.Answer(200, json{{"missing", Missing()}}.dump());
    } else if (const size_t hash = target.find("/v1/chunk?hash="); hash != target.npos) {
      const std::string chunk = target.substr(hash + 15);
      if (DecompressChunk(chunk, exchange.request().body)) chunks_.insert(chunk);
      exchange.Answer(200, "{}");
    } else {
      exchange.Answer(404, json{{"kind", "Status"}, {"code", 404}}.dump());
    }
  }
  json Missing() REQUIRES(mutex_) {
    if (!chunks_.contains(bundle_.hash())) return json::array({bundle_.hash()});
    json missing = json::array();
    for (const std::string& chunk : bundle_.manifest().Chunks()) {
      if (!chunks_.contains(chunk)) missing.push_back(chunk);
    }
    return missing;
  }

  void Begin() {
    const auto tell = [this](const std::string& text) {
      {
        MutexLock lock(mutex_);
        told_.push_back(text);
      }
      changed_.notify_all();
    };
    const SendListener listener{
        .on_begin = tell, .on_sent = tell, .on_failed = [tell](const Error& error) {
          tell("failed: " + error.message);
        }};
    sending_ = std::jthread([this, listener](const std::stop_token& stop) {
      BundleSender(*run_, bundle_, "train and 2 files, 4.0 MiB", listener, 10ms).Serve(stop);
    });
  }
  // Until so much has been told; all of it.
  std::vector<std::string> AwaitTold(size_t count) {
    MutexLock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(
        mutex_, 60s, [&]() NO_THREAD_SAFETY_ANALYSIS { return told_.size() >= count; }));
    return told_;
  }

  BundleFolder folder_;
  const LocalBundle bundle_ = folder_.Make();
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::string> chunks_ GUARDED_BY(mutex_);
  std::vector<std::string> told_ GUARDED_BY(mutex_);
  int refuse_next_ GUARDED_BY(mutex_) = 0;
  k8s::FakeServer server_;
  std::optional<RemoteRun> run_;
  std::jthread sending_;
};

TEST_F(SendBundleTest, SendsAllThatIsMissingAndNothingElse) {
  const std::string known = bundle_.manifest().Chunks()[0];
  {
    MutexLock lock(mutex_);
    chunks_.insert(known);
    refuse_next_ = 2;
  }
  Begin();
  const auto told = AwaitTold(2);
  EXPECT_EQ(told[0], "sends train and 2 files, 4.0 MiB (2.0 MiB to send)");
  EXPECT_THAT(told[1], MatchesRegex("sent train and 2 files, 4.0 MiB, .* of it compressed"));
  std::multiset<std::string> sent;
  for (const k8s::FakeRequest& request : server_.requests()) {
    if (request.method == "POST") sent.insert(request.target.substr(request.target.find('=') + 1));
  }
  EXPECT_EQ(sent.size(), 5U) << "the list of files, and all chunks but one";
  EXPECT_EQ(sent.count(known), 0U);
}

TEST_F(SendBundleTest, SendsAgainWhatACoordinatorHasLost) {
  Begin();
  AwaitTold(2);
  {
    MutexLock lock(mutex_);
    chunks_.clear();
  }
  const auto told = AwaitTold(4);
  EXPECT_EQ(told[2], told[0]);
  MutexLock lock(mutex_);
  EXPECT_EQ(chunks_.size(), 6U);
}

TEST_F(SendBundleTest, GivesUpWhenAFileHasChanged) {
  folder_.Write("data/a.bin", "eno");
  Begin();
  EXPECT_THAT(AwaitTold(2)[1], HasSubstr("a.bin has been changed"));
  sending_.join();
}

TEST_F(SendBundleTest, SaysThatTheCoordinatorIsOfAnotherVersion) {
  server_.Then([](FakeExchange& exchange) {
    exchange.Answer(404, json{{"error", "there is no such route"}, {"code", "not found"}}.dump());
  });
  Begin();
  EXPECT_THAT(AwaitTold(1)[0],
              HasSubstr("failed: the coordinator refuses: there is no such route"));
}

}  // namespace
}  // namespace muster::kubernetes
