// Random histories of a whole job (history.h).
//
//   MUSTER_SEED=n         plays that one history only, MUSTER_HISTORIES=n plays n from there on, on all cores
//   MUSTER_MEMBERS=n      at most so many members; m-n: each history has a number of its own from that range, small ones more often
//   MUSTER_TRACE_BYTES=n  shows more of the end of what went wrong
//   MUSTER_REWRITE=1      writes transitions.txt anew
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <thread>

#include "tests/sim/history.h"

namespace muster::sim {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string CommitOfTheTree() {
  const std::unique_ptr<FILE, int (*)(FILE*)> git(
      popen("git -C " SIM_FOLDER " describe --always --dirty 2>&1", "r"), pclose);
  char text[100] = "?";
  if (git) (void)std::fgets(text, sizeof text, git.get());
  return std::string(text).substr(0, std::string_view(text).find('\n'));
}

// The members of a campaign's histories.
struct Members {
  std::string text;
  int fewest = 0;
  int most = 0;
};

Members ReadMembers(int otherwise) {
  const char* text = std::getenv("MUSTER_MEMBERS");
  if (text == nullptr) return {std::to_string(otherwise), 0, otherwise};
  Members members{text};
  if (std::sscanf(text, "%d-%d", &members.fewest, &members.most) == 1) {
    members.most = std::exchange(members.fewest, 0);
  }
  return members;
}

// Each doubling of a range is as likely as the next: what takes thousands of members is rare, what takes three is not.
void ChooseMembers(const Members& members, HistoryOptions& options) {
  options.members = members.most;
  options.fewest = 0;
  if (members.fewest == 0) return;
  constexpr uint64_t kMembers = ~uint64_t{1};  // the stream of random numbers that nothing else has
  const double share = Dice(options.seed, kMembers).Between(0, 1'000'000) / 1e6;
  const double ratio = static_cast<double>(members.most + 1) / members.fewest;
  options.members =
      std::min(members.most, static_cast<int>(members.fewest * std::pow(ratio, share)));
  options.fewest = options.members;
}

// The shortest history that goes wrong, told.
std::string Explain(HistoryOptions options, const Members& members, const std::string& wrong,
                    int turns) {
  const uint64_t traced = FromEnvironment("MUSTER_TRACE_BYTES", 12000);
  options.turns = Shrink(options, turns);
  options.tracing = true;
  History again(options);
  const std::string shorter = again.Play();
  const std::string trace = again.Trace();
  return fmt::format(
      "MUSTER_SEED={} MUSTER_MEMBERS={} {}at commit {}: {}\n{} turns of its {} are enough for: "
      "{}\nthe end of those:\n{}",
      options.seed, members.text, options.from_platform ? "(on a platform) " : "",
      CommitOfTheTree(), wrong, options.turns->size(), turns, shorter,
      trace.substr(trace.size() > traced ? trace.size() - traced : 0));
}

struct Campaign {
  uint64_t histories = 2000;
  int members = 5;
  bool from_platform = false;
};

// Plays histories on all cores until one goes wrong; says now and then how many are left.
class Players {
 public:
  Players(const Campaign& campaign, uint64_t first, uint64_t count)
      : members_(ReadMembers(campaign.members)),
        from_platform_(campaign.from_platform),
        first_(first),
        count_(count),
        next_(first) {}

  void Play() {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) {
      threads.emplace_back([this] { PlaySome(); });
    }
  }

  const std::string& explanation() const { return explanation_; }
  Duration longest() const { return longest_; }

 private:
  void PlaySome() {
    HistoryOptions options{.from_platform = from_platform_};
    while ((options.seed = next_++) < first_ + count_) {
      ChooseMembers(members_, options);
      History history(options);
      const std::string wrong = history.Play();
      std::lock_guard lock(mutex_);
      ++played_;
      longest_ = std::max(longest_, history.recovery_time());
      if (!wrong.empty() && explanation_.empty()) {
        next_ = first_ + count_;
        explanation_ = Explain(options, members_, wrong, history.turns());
      }
      Tell();
    }
  }

  void Tell() {
    const auto now = std::chrono::steady_clock::now();
    if (now - told_ < std::chrono::seconds(30)) return;
    told_ = now;
    const double seconds = Seconds(now - began_);
    fmt::print(stderr, "{} of {} histories in {:.0f} s, {:.0f} s left\n", played_, count_, seconds,
               seconds / static_cast<double>(played_) * static_cast<double>(count_ - played_));
  }

  const Members members_;
  const bool from_platform_;
  const uint64_t first_;
  const uint64_t count_;
  std::atomic<uint64_t> next_;

  std::mutex mutex_;
  uint64_t played_ = 0;
  Duration longest_{};
  std::string explanation_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point told_ = began_;
};

void Play(const Campaign& campaign) {
  const uint64_t count = FromEnvironment(
      "MUSTER_HISTORIES", std::getenv("MUSTER_SEED") != nullptr ? 1 : campaign.histories);
  Players players(campaign, FromEnvironment("MUSTER_SEED", 1), count);
  players.Play();
  EXPECT_TRUE(players.explanation().empty()) << players.explanation();
  testing::Test::RecordProperty("longest_recovery_seconds",
                                fmt::format("{:.1f}", Seconds(players.longest())));
}

TEST(Histories, KeepTheInvariantsAndRecover) { Play({}); }

TEST(Histories, DoSoWhereAPlatformBringsAndTakesTheSlots) { Play({.from_platform = true}); }

TEST(Histories, DoSoWithDozensOfMembers) { Play({.histories = 20, .members = 50}); }

// What is in the list was seen often; what is seen no more is no longer tested by all that.
TEST(Histories, GoThroughTheTransitionsOfTheList) {
  constexpr uint64_t kOften = 20;
  scenario::Coverage coverage;
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    for (const bool from_platform : {false, true}) {
      EXPECT_EQ(
          History({.seed = seed, .from_platform = from_platform, .coverage = &coverage}).Play(),
          "");
    }
  }
  const std::string path = SIM_FOLDER "/transitions.txt";
  if (std::getenv("MUSTER_REWRITE") != nullptr) {
    std::ofstream list(path);
    for (const auto& [transition, count] : coverage.seen()) {
      if (count >= kOften) list << transition << "\n";
    }
  }
  std::ifstream list(path);
  int listed = 0;
  for (std::string transition; std::getline(list, transition); ++listed) {
    EXPECT_TRUE(coverage.seen().contains(transition)) << transition << " is not seen any more";
  }
  EXPECT_GT(listed, 0) << path;
  RecordProperty("transitions_listed", listed);
  RecordProperty("transitions_seen", static_cast<int>(coverage.seen().size()));
}

TEST(Histories, OfOneSeedAreTheSameWithWhatTurnsAreLeftOutToo) {
  const auto trace = [](const std::optional<std::set<int>>& turns) {
    HistoryOptions options{.seed = 7, .tracing = true, .turns = turns};
    History history(options);
    EXPECT_EQ(history.Play(), "");
    return history.Trace();
  };
  const std::string whole = trace(std::nullopt);
  EXPECT_EQ(whole, trace(std::nullopt));
  const std::string part = trace(std::set<int>{1, 2, 3, 5, 8, 13, 21, 34, 55, 89});
  EXPECT_EQ(part, trace(std::set<int>{1, 2, 3, 5, 8, 13, 21, 34, 55, 89}));
  EXPECT_NE(whole, part);
}

}  // namespace
}  // namespace muster::sim
