#include "tests/cluster/node/log_lines.h"

#include <gmock/gmock.h>

namespace muster::cluster {
namespace {

using namespace std::chrono_literals;

const LogTime kStart = LogTime(1'700'000'000s);

TEST(LogTarget, SaysWhichContainerAndHowMuchOfIt) {
  const auto request = ParseLogTarget(
      "/containerLogs/research/digits-0/worker?follow=true&tailLines=5&timestamps=true&"
      "sinceSeconds=60&limitBytes=100&previous=false&new=1");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->pod, "research/digits-0");
  EXPECT_EQ(request->container, "worker");
  EXPECT_TRUE(request->follow);
  EXPECT_TRUE(request->timestamps);
  EXPECT_EQ(request->tail_lines, 5);
  EXPECT_EQ(request->since_seconds, 60);
  EXPECT_EQ(request->limit_bytes, 100);
}

TEST(LogTarget, WithoutOptionsIsTheWholeLogThatThereIs) {
  const auto request = ParseLogTarget("/containerLogs/a/b/c");
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->follow);
  EXPECT_FALSE(request->tail_lines);
}

TEST(LogTarget, RefusesWhatItCannotAnswer) {
  EXPECT_EQ(ParseLogTarget("/exec/a/b/c").error().code, Code::kNotFound);
  EXPECT_EQ(ParseLogTarget("").error().code, Code::kNotFound);
  EXPECT_EQ(ParseLogTarget("/containerLogs/a/b/c?tailLines=-1").error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(ParseLogTarget("/containerLogs/a/b/c?tailLines=").error().code, Code::kInvalidArgument);
  EXPECT_EQ(ParseLogTarget("/containerLogs/a/b/c?previous=true").error().code,
            Code::kUnimplemented);
}

uint64_t BeginOfTail(uint64_t lines, std::string_view log) {
  return LogBegin({.tail_lines = lines}, log, {}, kStart);
}

TEST(LogBegin, CountsLinesFromTheEnd) {
  EXPECT_EQ(BeginOfTail(0, "a\nb\n"), 4);
  EXPECT_EQ(BeginOfTail(1, "a\nb\n"), 2);
  EXPECT_EQ(BeginOfTail(1, "a\nb"), 2);
  EXPECT_EQ(BeginOfTail(2, "a\nb\n"), 0);
  EXPECT_EQ(BeginOfTail(9, "a\nb\n"), 0);
  EXPECT_EQ(BeginOfTail(2, "\n\n\n"), 1);
  EXPECT_EQ(BeginOfTail(1, "\n"), 0);
  EXPECT_EQ(BeginOfTail(1, ""), 0);
}

TEST(LogBegin, LeavesOutWhatIsOlderButNotHalfALine) {
  const std::string log = "old\nhalf line\nnew\n";
  const std::vector<LogPiece> pieces{{8, kStart}, {14, kStart + 10s}, {18, kStart + 20s}};
  const auto begin = [&](uint64_t seconds) {
    return LogBegin({.since_seconds = seconds}, log, pieces, kStart + 25s);
  };
  EXPECT_EQ(begin(25), 0);
  EXPECT_EQ(begin(24), 14);  // "half" is of the first piece
  EXPECT_EQ(begin(5), 14);
  EXPECT_EQ(begin(4), 18);
}

TEST(LogText, PutsItsTimeBeforeEachLine) {
  const std::vector<LogPiece> pieces{{4, kStart}, {8, kStart + 1500ms}};
  const LogRequest stamped{.timestamps = true};
  const std::string first = "2023-11-14T22:13:20.000000000Z ";
  const std::string second = "2023-11-14T22:13:21.500000000Z ";
  EXPECT_EQ(LogText(stamped, "a\nbcd\ne\n", 0, pieces, true),
            first + "a\n" + first + "bcd\n" + second + "e\n");
  EXPECT_EQ(LogText(stamped, "d\ne\n", 4, pieces, false), "d\n" + second + "e\n");
  EXPECT_EQ(LogText({}, "a\nb", 0, pieces, true), "a\nb");
}

}  // namespace
}  // namespace muster::cluster
