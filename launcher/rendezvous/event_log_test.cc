#include "launcher/rendezvous/event_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/base/files.h"

namespace muster {
namespace {

class EventLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "muster-events-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ / "events.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static uint64_t Add(EventLog& log, const std::string& message) {
    return log.Append(EmitEvent{"note", 1, message, std::nullopt}, WallTime{});
  }
  static std::vector<std::string> Messages(const std::vector<std::string>& lines) {
    std::vector<std::string> messages;
    for (const std::string& line : lines)
      messages.push_back(nlohmann::json::parse(line)["message"]);
    return messages;
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(EventLogTest, NumbersEventsFromOne) {
  EventLog log(path_);
  EXPECT_EQ(log.next_sequence(), 1u);
  EXPECT_EQ(Add(log, "a"), 1u);
  EXPECT_EQ(Add(log, "b"), 2u);
  EXPECT_EQ(Messages(log.Read(0, 10)), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(Messages(log.Read(2, 10)), (std::vector<std::string>{"b"}));
  EXPECT_EQ(Messages(log.Read(1, 1)), (std::vector<std::string>{"a"}));
  EXPECT_TRUE(log.Read(3, 10).empty());
}

TEST_F(EventLogTest, GoesOnWhereAFormerCoordinatorStopped) {
  {
    EventLog log(path_);
    Add(log, "a");
    Add(log, "b");
  }
  EventLog log(path_);
  EXPECT_EQ(Add(log, "c"), 3u);
  EXPECT_EQ(Messages(log.Read(1, 10)), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(EventLogTest, LeavesOutNumbersThatAFormerCoordinatorMayHaveGiven) {
  {
    EventLog log(path_);
    Add(log, "a");
  }
  EventLog log(path_, 1001);
  EXPECT_EQ(log.next_sequence(), 1001u);
  EXPECT_EQ(Add(log, "b"), 1001u);
  EXPECT_EQ(Messages(log.Read(1, 10)), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(Messages(log.Read(5, 10)), (std::vector<std::string>{"b"}));
  EXPECT_EQ(EventLog(path_, 1001).next_sequence(), 1002u);
}

TEST_F(EventLogTest, RemovesALastLineCutAtAnyByte) {
  {
    EventLog log(path_);
    Add(log, "a");
    Add(log, "b");
  }
  const std::string bytes = *ReadFile(path_);
  const size_t first = bytes.find('\n') + 1;
  for (size_t cut = first; cut < bytes.size(); ++cut) {
    ASSERT_TRUE(WriteFileAtomically(path_, bytes.substr(0, cut)));
    EventLog log(path_);
    ASSERT_EQ(Add(log, "c"), 2u) << cut;
    ASSERT_EQ(Messages(log.Read(1, 10)), (std::vector<std::string>{"a", "c"})) << cut;
  }
  ASSERT_TRUE(WriteFileAtomically(path_, bytes.substr(0, first - 3)));
  EventLog log(path_);
  EXPECT_EQ(Add(log, "c"), 1u);
}

TEST_F(EventLogTest, ReadsFromTheFileWhatMemoryHasLetGo) {
  EventLog log(path_);
  const size_t count = EventLog::kInMemory + 100;
  for (size_t i = 1; i <= count; ++i) Add(log, std::to_string(i));
  std::vector<std::string> all;
  for (uint64_t from = 1; from < log.next_sequence();) {
    const auto lines = log.Read(from, 1'000);
    ASSERT_FALSE(lines.empty());
    from = EventSequence(lines.back()) + 1;
    for (const std::string& message : Messages(lines)) all.push_back(message);
  }
  ASSERT_EQ(all.size(), count);
  for (size_t i = 0; i < count; ++i) ASSERT_EQ(all[i], std::to_string(i + 1));
}

TEST_F(EventLogTest, StaysBoundedAndKeepsTheOlderHalf) {
  const size_t rotate = 4'000;
  {
    EventLog log(path_, 1, rotate);
    for (int i = 1; i <= 1'000; ++i) Add(log, "some text that takes room");
    EXPECT_LE(std::filesystem::file_size(path_), rotate + 200);
    EXPECT_LE(std::filesystem::file_size(path_.string() + ".1"), rotate + 200);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 2);
  }
  EventLog log(path_, 1, rotate);
  EXPECT_EQ(log.next_sequence(), 1'001u);
  const auto lines = log.Read(1, 1'000);
  ASSERT_GT(lines.size(), 30u);
  EXPECT_EQ(EventSequence(lines.back()), 1'000u);
  EXPECT_EQ(EventSequence(lines.front()), 1'001 - lines.size()) << "a gap, or a line twice";
}

TEST_F(EventLogTest, ContinuesWhenTheNewFileOfARotationIsStillEmpty) {
  {
    EventLog log(path_);
    Add(log, "a");
  }
  std::filesystem::rename(path_, path_.string() + ".1");
  EventLog log(path_);
  EXPECT_EQ(Add(log, "b"), 2u);
}

// A limit on the file's size stands for a full disk.
TEST_F(EventLogTest, GoesOnInMemoryWhenTheDiskIsFull) {
  EventLog log(path_);
  Add(log, "a");
  const rlimit room{std::filesystem::file_size(path_) + 10, RLIM_INFINITY};
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &room);
  Add(log, "b");
  ::setrlimit(RLIMIT_FSIZE, &before);
  Add(log, "c");
  EXPECT_EQ(Messages(log.Read(1, 10)), (std::vector<std::string>{"a", "b", "c"}));
  std::ifstream file(path_);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_EQ(Messages(lines), (std::vector<std::string>{"a", "c"}));
}

TEST_F(EventLogTest, LivesWithoutAnyFile) {
  EventLog log(folder_ / "no such folder" / "events.jsonl");
  Add(log, "a");
  EXPECT_EQ(Messages(log.Read(1, 10)), (std::vector<std::string>{"a"}));
}

TEST_F(EventLogTest, GivesReadersWholeLinesInOrderWhileItIsWrittenAndRotated) {
  EventLog log(path_, 1, 100'000);
  const uint64_t count = 20'000;
  std::jthread writer([&] {
    for (uint64_t i = 1; i <= count; ++i) Add(log, std::to_string(i));
  });
  uint64_t from = 1;
  while (from <= count) {
    for (const std::string& line : log.Read(from, 64)) {
      const uint64_t sequence = EventSequence(line);
      ASSERT_GE(sequence, from);
      ASSERT_EQ(nlohmann::json::parse(line)["message"], std::to_string(sequence));
      from = sequence + 1;
    }
  }
}

}  // namespace
}  // namespace muster
