#include "launcher/verbs/follow.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace muster {
namespace {

using Lines = std::vector<std::string>;

class LineFollowerTest : public ::testing::Test {
 protected:
  LineFollowerTest() { Remove(); }
  ~LineFollowerTest() override { Remove(); }
  void Remove() {
    std::filesystem::remove(path_);
    std::filesystem::remove(path_ + ".1");
  }
  void Append(const std::string& text) { std::ofstream(path_, std::ios::app) << text; }

  const std::string path_ = ::testing::TempDir() + "/line_follower_test";
};

TEST_F(LineFollowerTest, HandsOutWholeLinesOnce) {
  LineFollower file(path_, false);
  EXPECT_EQ(file.Read(10), Lines{});
  Append("one\ntw");
  EXPECT_EQ(file.Read(10), Lines{"one"});
  Append("o\nrest");
  EXPECT_EQ(file.Read(10), Lines{"two"});
  EXPECT_EQ(file.Read(10), Lines{});
  EXPECT_EQ(file.TakeRest(), "rest");
}

TEST_F(LineFollowerTest, KeepsToItsLimit) {
  Append("1\n2\n3\n");
  LineFollower file(path_, false);
  EXPECT_EQ(file.Read(2), (Lines{"1", "2"}));
  EXPECT_EQ(file.Read(2), Lines{"3"});
}

TEST_F(LineFollowerTest, GoesOnInTheNewFileAfterARotation) {
  Append("1\n");
  LineFollower file(path_, false);
  EXPECT_EQ(file.Read(10), Lines{"1"});
  Append("2\n");
  std::filesystem::rename(path_, path_ + ".1");
  Append("3\n");
  EXPECT_EQ(file.Read(10), (Lines{"2", "3"}));
}

TEST_F(LineFollowerTest, BeginsWithTheOlderFile) {
  Append("1\n");
  std::filesystem::rename(path_, path_ + ".1");
  Append("2\n");
  EXPECT_EQ(LineFollower(path_, true).Read(10), (Lines{"1", "2"}));
  EXPECT_EQ(LineFollower(path_, false).Read(10), Lines{"2"});
}

}  // namespace
}  // namespace muster
