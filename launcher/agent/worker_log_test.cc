#include "launcher/agent/worker_log.h"

#include <gtest/gtest.h>

#include "runtime/base/files.h"

namespace muster {
namespace {

TEST(TailBuffer, KeepsTheLastLines) {
  TailBuffer tail(2, 100);
  tail.Append("one\ntwo\nth");
  EXPECT_EQ(tail.Text(), "two\nth");
  tail.Append("ree\n");
  EXPECT_EQ(tail.Text(), "two\nthree\n");
}

TEST(TailBuffer, IsEmptyWhenNothingWasPrinted) {
  TailBuffer tail(2, 100);
  EXPECT_EQ(tail.Text(), "");
  tail.Append("\n");
  EXPECT_EQ(tail.Text(), "\n");
}

TEST(TailBuffer, CutsALongLineAtItsBeginning) {
  TailBuffer tail(20, 8);
  tail.Append("0123456789");
  EXPECT_EQ(tail.Text(), "23456789");
  for (int i = 0; i < 1000; ++i) tail.Append("abc");
  EXPECT_EQ(tail.Text(), "bcabcabc");
}

class WorkerLogTest : public ::testing::Test {
 protected:
  WorkerLogTest() { Remove(); }
  ~WorkerLogTest() override { Remove(); }
  void Remove() {
    std::filesystem::remove(path_);
    std::filesystem::remove(path_ + ".1");
  }
  const std::string path_ = ::testing::TempDir() + "/worker_log_test.log";
};

TEST_F(WorkerLogTest, KeepsTwoFilesOfBoundedSize) {
  WorkerLog log(path_, 10);
  for (const char* text : {"aaaaaa\n", "bbbbbb\n", "cccccc\n"}) log.Append(text);
  EXPECT_EQ(ReadFile(path_).value(), "cccccc\n");
  EXPECT_EQ(ReadFile(path_ + ".1").value(), "bbbbbb\n");
}

TEST_F(WorkerLogTest, GoesOnWhereAFormerAgentStopped) {
  WorkerLog(path_, 10).Append("aaaaaa\n");
  WorkerLog(path_, 10).Append("bbbbbb\n");
  EXPECT_EQ(ReadFile(path_).value(), "bbbbbb\n");
}

TEST_F(WorkerLogTest, PutsItsOwnNotesOnLinesOfTheirOwn) {
  WorkerLog log(path_);
  log.Note("w-0 started");
  log.Append("half a line");
  log.Note("w-0 ended");
  EXPECT_EQ(ReadFile(path_).value(), "[launcher] w-0 started\nhalf a line\n[launcher] w-0 ended\n");
}

TEST(WorkerLogToStdout, MarksWholeLinesWhereAgentsShareIt) {
  ::testing::internal::CaptureStdout();
  {
    WorkerLog log = WorkerLog::ToStdout("[w-1] ");
    log.Append("one\ntw");
    log.Append("o\n\nend");
    log.Note("w-1 ended");
    log.Append(std::string(WorkerLog::kLongestLine + 5, 'x'));
    log.Append("y\n");
  }
  const std::string long_line(WorkerLog::kLongestLine + 5, 'x');
  EXPECT_EQ(::testing::internal::GetCapturedStdout(),
            "[w-1] one\n[w-1] two\n[w-1] \n[w-1] end\n[w-1] [launcher] w-1 ended\n[w-1] " +
                long_line + "\n[w-1] y\n");
}

TEST_F(WorkerLogTest, SurvivesAFileThatCannotBeWritten) {
  WorkerLog log("/nowhere/at/all");
  log.Append("lost\n");
  log.Note("lost");
}

}  // namespace
}  // namespace muster
