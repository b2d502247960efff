#include "runtime/base/files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

namespace muster {
namespace {

class FilesTest : public testing::Test {
 protected:
  FilesTest() {
    std::string name = (std::filesystem::temp_directory_path() / "muster-files-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~FilesTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(FilesTest, AWriteReplacesTheWholeFileAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "status", "a longer content"));
  ASSERT_TRUE(WriteFileAtomically(folder_ / "status", "short", /*durable=*/true));
  EXPECT_EQ(*ReadFile(folder_ / "status"), "short");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

// Its end comes in the middle: what it writes to is a pipe that nobody reads.
TEST_F(FilesTest, WhatAKilledWriterHasLeftIsRemovedAndNothingElse) {
  const pid_t writer = ::fork();
  if (writer == 0) {
    const std::string half = (folder_ / "status").string() + ".tmp." + std::to_string(::getpid());
    (void)::mkfifo(half.c_str(), 0600);
    (void)WriteFileAtomically(folder_ / "status", "content");
    ::_exit(1);
  }
  const std::string suffix = ".tmp." + std::to_string(writer);
  const std::filesystem::path half = folder_ / ("status" + suffix);
  while (!std::filesystem::exists(half)) std::this_thread::yield();
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  ASSERT_TRUE(WriteFileAtomically(folder_ / ("other" + suffix + "0"), "of another process"));
  RemoveHalfWritten(folder_, writer);
  EXPECT_FALSE(std::filesystem::exists(half));
  EXPECT_TRUE(std::filesystem::exists(folder_ / ("other" + suffix + "0")));
  RemoveHalfWritten(folder_ / "not there", writer);
}

}  // namespace
}  // namespace muster
