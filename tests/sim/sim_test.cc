// Random histories of a whole job (history.h).
//
//   MUSTER_SEED=n         plays that one history only, MUSTER_HISTORIES=n plays n from there on
//   MUSTER_MEMBERS=n      at most so many members
//   MUSTER_TRACE_BYTES=n  shows more of the end of what went wrong
//   MUSTER_REWRITE=1      writes transitions.txt anew
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

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

// The shortest history that goes wrong, told.
std::string Explain(HistoryOptions options, const std::string& wrong, int turns) {
  const uint64_t traced = FromEnvironment("MUSTER_TRACE_BYTES", 12000);
  options.turns = Shrink(options, turns);
  options.tracing = true;
  History again(options);
  const std::string shorter = again.Play();
  const std::string trace = again.Trace();
  return fmt::format(
      "MUSTER_SEED={} MUSTER_MEMBERS={} {}at commit {}: {}\n{} turns of its {} are enough for: "
      "{}\nthe end of those:\n{}",
      options.seed, options.members, options.from_platform ? "(on a platform) " : "",
      CommitOfTheTree(), wrong, options.turns->size(), turns, shorter,
      trace.substr(trace.size() > traced ? trace.size() - traced : 0));
}

struct Campaign {
  uint64_t histories = 2000;
  int members = 5;
  bool from_platform = false;
};

void Play(const Campaign& campaign) {
  HistoryOptions options;
  options.from_platform = campaign.from_platform;
  options.members =
      static_cast<int>(FromEnvironment("MUSTER_MEMBERS", static_cast<uint64_t>(campaign.members)));
  const uint64_t first = FromEnvironment("MUSTER_SEED", 1);
  const uint64_t count = FromEnvironment(
      "MUSTER_HISTORIES", std::getenv("MUSTER_SEED") != nullptr ? 1 : campaign.histories);
  Duration longest{};
  for (options.seed = first; options.seed < first + count; ++options.seed) {
    History history(options);
    const std::string wrong = history.Play();
    longest = std::max(longest, history.recovery_time());
    if (!wrong.empty()) FAIL() << Explain(options, wrong, history.turns());
  }
  testing::Test::RecordProperty("longest_recovery_seconds",
                                fmt::format("{:.1f}", Seconds(longest)));
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
