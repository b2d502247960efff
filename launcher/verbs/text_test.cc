#include "launcher/verbs/text.h"

#include <gtest/gtest.h>

#include <limits>

#include "launcher/job/suggest.h"

namespace muster {
namespace {

TEST(ParseWorkers, TakesANumberOrARange) {
  EXPECT_EQ(ParseWorkers("--workers", "4").value(), (WorkerRange{4, 4}));
  EXPECT_EQ(ParseWorkers("--workers", "2:8").value(), (WorkerRange{2, 8}));
  EXPECT_EQ(ParseWorkers("--workers", "4096").value(), (WorkerRange{4096, 4096}));
}

TEST(ParseWorkers, RefusesEverythingElseAndNamesIt) {
  for (const std::string bad :
       {"", "0", "-1", "+3", " 3", "3 ", "4097", "x", "3x", "1e3", "0x4", "2:", ":2", "2:3:4",
        "0:4", "1:4097", "99999999999999999999", "2.5"}) {
    const auto range = ParseWorkers("--workers", bad);
    ASSERT_FALSE(range) << bad;
    EXPECT_EQ(
        range.error().message,
        fmt::format(
            "--workers is \"{}\", it must be a number from 1 to 4096, or two of them as MIN:MAX",
            bad));
  }
  EXPECT_EQ(ParseWorkers("--workers", "5:2").error().message,
            "--workers is \"5:2\": the minimum is larger than the maximum");
}

TEST(ParseWorkers, DoesNotRepeatAMegabyte) {
  EXPECT_LT(ParseWorkers("--workers", std::string(1 << 20, '7')).error().message.size(), 200U);
}

TEST(ParseNumber, KeepsToItsRange) {
  EXPECT_EQ(ParseNumber("--x", "100", 100, 200).value(), 100);
  EXPECT_EQ(ParseNumber("--x", "99", 100, 200).error().message,
            "--x is \"99\", it must be a whole number from 100 to 200");
  EXPECT_FALSE(ParseNumber("--x", "201", 100, 200));
  EXPECT_FALSE(ParseNumber("--x", "", 0, 200));
}

TEST(ParseNumberList, SplitsAtCommas) {
  EXPECT_EQ(ParseNumberList("--ranks", "0,3").value(), (std::vector<int>{0, 3}));
  EXPECT_FALSE(ParseNumberList("--ranks", ""));
  EXPECT_FALSE(ParseNumberList("--ranks", "0,x"));
}

TEST(NameFor, MakesAJobNameOfAnyFileName) {
  EXPECT_EQ(NameFor("./build/bin/digits", "7f3a"), "digits-7f3a");
  EXPECT_EQ(NameFor("My Train_v2.sh", "7f3a"), "my-train-v2-sh-7f3a");
  EXPECT_EQ(NameFor("___", "7f3a"), "job-7f3a");
  EXPECT_EQ(NameFor(std::string(300, 'x'), "7f3a").size(), 45U);
}

TEST(ShellQuote, KeepsWordsTogether) {
  EXPECT_EQ(ShellQuote({"a", "b c", "it's", "", "--x=1"}), "a 'b c' 'it'\\''s' '' --x=1");
}

TEST(DurationText, FitsTheSize) {
  EXPECT_EQ(DurationText(7.9), "0:07");
  EXPECT_EQ(DurationText(725), "12:05");
  EXPECT_EQ(DurationText(11045), "3:04:05");
  EXPECT_EQ(DurationText(2 * 86400 + 3 * 3600), "2d 03h");
  EXPECT_EQ(DurationText(std::numeric_limits<double>::infinity()), "?");
}

TEST(Table, AlignsColumnsWithoutTrailingSpaces) {
  EXPECT_EQ(Table({{"A", "LONG"}, {"bbb", "c"}}), "A    LONG\nbbb  c\n");
}

TEST(EditDistance, CountsASwapAsOneMistake) {
  EXPECT_EQ(EditDistance("train", "train"), 0);
  EXPECT_EQ(EditDistance("trian", "train"), 1);
  EXPECT_EQ(EditDistance("tran", "train"), 1);
  EXPECT_EQ(EditDistance("", "abc"), 3);
}

TEST(Nearest, FindsTheLikelyWordAndNoUnlikelyOne) {
  const std::vector<std::string> verbs{"run", "ps", "status", "events", "logs", "resize", "stop"};
  EXPECT_EQ(Nearest("stauts", verbs), "status");
  EXPECT_EQ(Nearest("resiz", verbs), "resize");
  EXPECT_EQ(Nearest("stat", verbs), "status");
  EXPECT_EQ(Nearest("kubernetes", verbs), std::nullopt);
  EXPECT_EQ(Nearest("", {}), std::nullopt);
}

}  // namespace
}  // namespace muster
