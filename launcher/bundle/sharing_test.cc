// A coordinator's hub and agents that fetch, in one process: over real connections, with real chunks.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/bundle/bundle_hub.h"
#include "launcher/bundle/bundle_service.h"
#include "launcher/bundle/fetch.h"
#include "launcher/bundle/testing/bundle_folder.h"

namespace muster {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kJob[] = "0123456789abcdef";
constexpr char kSecret[] = "00112233";

// A coordinator with its server.
class Hub {
 public:
  Hub(const std::string& bundle, const std::filesystem::path& folder) {
    BundleHubOptions options{.job = kJob, .secret = kSecret, .bundle = bundle, .folder = folder};
    options.share.doubt = options.share.silence = 10min;  // these agents do not repeat themselves
    options.note = [this](const std::string& sentence) {
      const std::lock_guard lock(mutex_);
      notes_.push_back(sentence);
    };
    hub_ = std::move(BundleHub::Create(std::move(options)).value());
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&hub_->service());
    server_ = builder.BuildAndStart();
  }
  ~Hub() {
    server_->Shutdown(std::chrono::system_clock::now() + 100ms);
    server_->Wait();
  }

  BundleHub& operator*() { return *hub_; }
  BundleHub* operator->() { return hub_.get(); }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  json State() { return json::parse(hub_->StateText()); }
  std::vector<std::string> notes() {
    const std::lock_guard lock(mutex_);
    return notes_;
  }

  // What a user's machine does.
  void Send(const LocalBundle& bundle) {
    for (json missing = State()["missing"]; !missing.empty(); missing = State()["missing"]) {
      for (const json& chunk : missing) {
        const auto put = hub_->Put(chunk, bundle.Compressed(chunk).value());
        ASSERT_TRUE(put) << put.error().message;
      }
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> notes_;  // guarded by mutex_
  std::unique_ptr<BundleHub> hub_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// An agent with a store of its own. Once it has the bundle it serves it.
class Agent {
 public:
  Agent(std::string name, const std::filesystem::path& folder)
      : name_(std::move(name)), store_(std::move(ChunkStore::Open(folder / name_).value())) {}

  Result<Fetched> Fetch(Hub& hub, const std::string& bundle, Duration patience = 60s) {
    FetchOptions options{.coordinator = hub.address(),
                         .job = kJob,
                         .secret = kSecret,
                         .agent = name_,
                         .bundle = bundle,
                         .patience = patience};
    auto fetched = muster::Fetch(options, *store_, cancellation_);
    if (fetched) Serve(hub);
    return fetched;
  }
  void Serve(Hub& hub) {
    server_ = std::move(ChunkServer::Start("127.0.0.1", kJob, kSecret, *store_).value());
    hub->Hold(name_, server_->address());
  }

  const std::string& address() const { return server_->address(); }
  ChunkStore& store() { return *store_; }
  Cancellation& cancellation() { return cancellation_; }

 private:
  const std::string name_;
  const std::unique_ptr<ChunkStore> store_;
  Cancellation cancellation_;
  std::unique_ptr<ChunkServer> server_;
};

class SharingTest : public ::testing::Test {
 protected:
  std::vector<std::string> Sources(const Fetched& fetched) {
    std::vector<std::string> sources;
    for (const auto& [source, chunks] : fetched.chunks_from) sources.push_back(source);
    return sources;
  }

  BundleFolder folder_;
  const LocalBundle bundle_ = folder_.Make();
  Hub hub_{bundle_.hash(), folder_.root() / "hub"};
};

TEST_F(SharingTest, AHubSaysWhatItLacksUntilItHasAll) {
  EXPECT_EQ(hub_.State()["missing"], json::array({bundle_.hash()})) << "the list of files first";
  const std::string chunk = bundle_.manifest().Chunks()[0];
  EXPECT_EQ(hub_->Put(chunk, *bundle_.Compressed(chunk)).error().code, Code::kInvalidArgument);
  ASSERT_TRUE(hub_->Put(bundle_.hash(), *bundle_.Compressed(bundle_.hash())));
  EXPECT_EQ(hub_.State()["missing"].size(), 5U);
  EXPECT_EQ(hub_->Put(chunk, CompressChunk("other bytes")).error().code, Code::kDataLoss);
  EXPECT_EQ(hub_.State()["missing"].size(), 5U);
  EXPECT_EQ(hub_->Put(Sha256("foreign"), CompressChunk("foreign")).error().code,
            Code::kInvalidArgument);
  hub_.Send(bundle_);
  EXPECT_EQ(hub_.State()["whole"], true);
  EXPECT_EQ(hub_.State()["sources"], 1);
  EXPECT_THAT(hub_.notes(), ElementsAre(HasSubstr("the program has arrived: 3 files, 4.0 MiB")));
}

TEST_F(SharingTest, AgentsPassItOnAlsoWhenTheCoordinatorHasLostIt) {
  hub_.Send(bundle_);
  Agent first("w-0", folder_.root()), second("w-1", folder_.root()), third("w-2", folder_.root());
  auto fetched = first.Fetch(hub_, bundle_.hash());
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_THAT(Sources(*fetched), ElementsAre("coordinator"));
  ASSERT_TRUE(Unpack(fetched->manifest, first.store(), folder_.root() / "out"));
  EXPECT_EQ(ReadFile(folder_.root() / "out/bin/train").value(),
            ReadFile(folder_.root() / "train").value());

  fetched = second.Fetch(hub_, bundle_.hash());
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_THAT(Sources(*fetched), ElementsAre(first.address()));

  Hub next(bundle_.hash(), folder_.root() / "next");
  EXPECT_FALSE(next.State()["missing"].empty());
  next->Hold("w-1", second.address());  // its heartbeat
  EXPECT_TRUE(next.State()["missing"].empty()) << "nobody needs to send it again";
  fetched = third.Fetch(next, bundle_.hash());
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_THAT(Sources(*fetched), ElementsAre(second.address()));
}

TEST_F(SharingTest, ADamagedChunkIsFetchedElsewhere) {
  hub_.Send(bundle_);
  Agent bad("w-0", folder_.root()), good("w-1", folder_.root());
  ASSERT_TRUE(bad.Fetch(hub_, bundle_.hash()));
  const std::string chunk = bundle_.manifest().Chunks()[1];
  folder_.Write("w-0/" + chunk, CompressChunk("other bytes"));
  const auto fetched = good.Fetch(hub_, bundle_.hash());
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_EQ(fetched->chunks_from.at(bad.address()), 2) << "the list and what came before it";
  EXPECT_EQ(fetched->chunks_from.at("coordinator"), 4);
  EXPECT_THAT(hub_.notes().back(), HasSubstr("w-1 fetches the program elsewhere: chunk "));
  EXPECT_THAT(hub_.notes().back(), HasSubstr("is damaged"));
}

TEST_F(SharingTest, ManyAtOnceAllGetIt) {
  constexpr int kAgents = 12;
  hub_.Send(bundle_);
  std::vector<std::unique_ptr<Agent>> agents;
  for (int i = 0; i < kAgents; ++i) {
    agents.push_back(std::make_unique<Agent>(fmt::format("w-{}", i), folder_.root()));
  }
  std::mutex mutex;
  int from_agents = 0;
  {
    std::vector<std::jthread> threads;
    for (const auto& agent : agents) {
      threads.emplace_back([&] {
        const auto fetched = agent->Fetch(hub_, bundle_.hash());
        ASSERT_TRUE(fetched) << fetched.error().message;
        const std::lock_guard lock(mutex);
        from_agents += fetched->chunks_from.contains("coordinator") ? 0 : 1;
      });
    }
  }
  // Four have places at the coordinator at a time, and those that come later have nearer ones.
  EXPECT_GE(from_agents, 1);
}

TEST_F(SharingTest, WhoFindsNobodyGivesUpInTheEndAndSaysWhy) {
  Agent agent("w-0", folder_.root());
  const auto fetched = agent.Fetch(hub_, bundle_.hash(), 300ms);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code, Code::kDeadlineExceeded);
  EXPECT_THAT(fetched.error().message, HasSubstr("nobody has a place for w-0"));
}

TEST_F(SharingTest, WhoIsToldToGoStopsWaiting) {
  Agent agent("w-0", folder_.root());
  std::jthread waiting([&] {
    const auto fetched = agent.Fetch(hub_, bundle_.hash());
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().code, Code::kCancelled);
  });
  agent.cancellation().Cancel();
}

TEST_F(SharingTest, WhoDoesNotKnowTheSecretGetsNothing) {
  hub_.Send(bundle_);
  const auto stub = v1::Bundles::NewStub(OpenChannel(hub_.address()));
  v1::ChunkRequest request;
  request.set_hash(bundle_.hash());
  for (const bool right : {false, true}) {
    grpc::ClientContext context;
    Authenticate(context, kJob, right ? kSecret : "wrong");
    SetDeadline(context, MonotonicNow() + 60s);
    v1::ChunkReply reply;
    EXPECT_EQ(stub->GetChunk(&context, request, &reply).ok(), right);
    EXPECT_EQ(reply.data().empty(), !right);
  }
}

}  // namespace
}  // namespace muster
