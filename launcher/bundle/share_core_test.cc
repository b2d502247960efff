#include "launcher/bundle/share_core.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

namespace muster {
namespace {

using namespace std::chrono_literals;

const TimePoint kStart{1h};

std::string AddressOf(const std::string& agent) { return agent + ":1"; }

class ShareCoreTest : public ::testing::Test {
 protected:
  // Where `agent` is sent: "coordinator", an address, or "wait".
  std::string Ask(const std::string& agent, bool failed = false) {
    const ShareAnswer answer = core_.Locate(agent, failed, now_);
    if (!answer.found) {
      EXPECT_GT(answer.wait, Duration::zero());
      return "wait";
    }
    EXPECT_EQ(answer.turn, options_.turn);
    return answer.address.empty() ? "coordinator" : answer.address;
  }
  void Hold(const std::string& agent) { core_.Hold(agent, AddressOf(agent), now_); }

  ShareOptions options_{.at_once = 2};
  ShareCore core_{options_};
  TimePoint now_ = kStart;
};

TEST_F(ShareCoreTest, EverybodyWaitsWhileNobodyHasIt) {
  EXPECT_EQ(Ask("a"), "wait");
  EXPECT_EQ(core_.CountSources(now_), 0U);
  core_.SetWhole();
  EXPECT_EQ(core_.CountSources(now_), 1U);
  EXPECT_EQ(Ask("a"), "coordinator");
}

TEST_F(ShareCoreTest, NoSourceServesMoreThanItsShare) {
  core_.SetWhole();
  EXPECT_EQ(Ask("a"), "coordinator");
  EXPECT_EQ(Ask("b"), "coordinator");
  EXPECT_EQ(Ask("c"), "wait");
  Hold("a");  // and so its place is free, and there is another source, which is asked first
  EXPECT_EQ(Ask("c"), "a:1");
  EXPECT_EQ(Ask("d"), "a:1");  // both serve one; the coordinator has more to do
  EXPECT_EQ(Ask("e"), "coordinator");
  EXPECT_EQ(Ask("f"), "wait");
}

TEST_F(ShareCoreTest, AskingAgainKeepsOnePlace) {
  core_.SetWhole();
  for (int turn = 0; turn < 5; ++turn) EXPECT_EQ(Ask("a"), "coordinator");
  EXPECT_EQ(Ask("b"), "coordinator");
  EXPECT_EQ(Ask("c"), "wait");
}

TEST_F(ShareCoreTest, ThePlaceOfADeadFetcherIsFreeWhenItsLeaseIsOver) {
  core_.SetWhole();
  Ask("a");
  Ask("b");
  now_ += options_.lease - 1s;
  EXPECT_EQ(Ask("c"), "wait");
  now_ += 2s;
  EXPECT_EQ(Ask("c"), "coordinator");
}

TEST_F(ShareCoreTest, ASourceThatFailedIsAvoidedForAWhile) {
  core_.SetWhole();
  Hold("h");
  EXPECT_EQ(Ask("a"), "h:1");
  EXPECT_EQ(Ask("a", /*failed=*/true), "coordinator");
  EXPECT_EQ(Ask("b"), "h:1") << "only by the one that it failed";
  EXPECT_EQ(Ask("a", /*failed=*/true), "wait") << "now it avoids both";
  now_ += options_.avoid + 1s;
  Hold("h");
  EXPECT_NE(Ask("a"), "wait");
}

TEST_F(ShareCoreTest, AnAgentThatIsNotHeardOfIsNoSource) {
  Hold("h");
  now_ += options_.silence;
  Hold("i");
  EXPECT_EQ(core_.CountSources(now_), 2U);
  now_ += 1s;
  EXPECT_EQ(core_.CountSources(now_), 1U);
  EXPECT_EQ(Ask("a"), "i:1");
}

TEST_F(ShareCoreTest, AnAgentThatIsLateIsASourceOnlyWhileThereIsNoOther) {
  core_.SetWhole();
  Hold("h");
  now_ += options_.doubt + 1ms;
  EXPECT_EQ(Ask("a"), "coordinator");
  EXPECT_EQ(Ask("b"), "coordinator");
  EXPECT_EQ(Ask("c"), "h:1");
  Hold("h");
  EXPECT_EQ(Ask("d"), "h:1");
}

TEST_F(ShareCoreTest, AnAgentThatComesBackElsewhereIsANewSource) {
  Hold("h");
  EXPECT_EQ(Ask("a"), "h:1");
  core_.Hold("h", "elsewhere:2", now_);
  EXPECT_EQ(Ask("b"), "elsewhere:2");
  EXPECT_EQ(Ask("c"), "elsewhere:2");
  // The lease on the former one is not one on this.
  EXPECT_EQ(Ask("a"), "wait");
  Hold("a");
  EXPECT_EQ(Ask("d"), "a:1");
}

TEST_F(ShareCoreTest, WhoWaitsAsksMoreRarelyTheMoreOfThemThereAre) {
  EXPECT_EQ(core_.Locate("a", false, now_).wait, options_.ask_again);
  for (int i = 0; i < 4000; ++i) core_.Locate(fmt::format("w{}", i), false, now_);
  now_ += 1s;
  EXPECT_GE(core_.Locate("a", false, now_).wait, options_.ask_again + 1000ms);
}

TEST_F(ShareCoreTest, ForgetsWhoDoesNotAskAnyMore) {
  ShareCore core({.max_fetchers = 2});
  core.SetWhole();
  EXPECT_TRUE(core.Locate("a", false, now_).found);
  EXPECT_TRUE(core.Locate("b", false, now_).found);
  EXPECT_FALSE(core.Locate("c", false, now_).found);
  EXPECT_TRUE(core.Locate("c", false, now_ + options_.lease + 1s).found);
}

// A thousand agents that take the same time for a transfer. Without passing on, the coordinator would need 250 rounds.
TEST(ShareCoreAtScale, AThousandSpreadAsATree) {
  constexpr int kAgents = 1000;
  const ShareOptions options;
  ShareCore core(options);
  core.SetWhole();
  TimePoint now = kStart;
  std::deque<std::string> waiting;
  for (int i = 0; i < kAgents; ++i) waiting.push_back(fmt::format("a{}", i));
  std::vector<std::string> holders;
  int rounds = 0;
  while (!waiting.empty()) {
    ++rounds;
    std::map<std::string, int> served;
    std::vector<std::string> fetching;
    for (size_t left = waiting.size(); left > 0; --left) {
      const std::string agent = waiting.front();
      waiting.pop_front();
      const ShareAnswer answer = core.Locate(agent, false, now);
      if (!answer.found) {
        waiting.push_back(agent);
        continue;
      }
      ++served[answer.address];
      fetching.push_back(agent);
    }
    for (const auto& [source, fetchers] : served) ASSERT_LE(fetchers, options.at_once) << source;
    ASSERT_FALSE(fetching.empty());
    now += 1s;
    holders.insert(holders.end(), fetching.begin(), fetching.end());
    for (const std::string& agent : holders) core.Hold(agent, AddressOf(agent), now);
  }
  EXPECT_EQ(holders.size(), size_t{kAgents});
  EXPECT_EQ(rounds, 5) << "5^5 > 1001 > 5^4: the sources grow fivefold in each";
}

}  // namespace
}  // namespace muster
