#include "launcher/platform/kubernetes/keep.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "launcher/job/store.h"
#include "runtime/base/files.h"

namespace muster::kubernetes {
namespace {

using nlohmann::json;

class KeepTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "muster-keep-XXXXXX";
    root_ = ::mkdtemp(path.data());
    spec_.name.assign("a");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  JobFolder folder() const { return JobFolder(root_); }
  json Read(const std::filesystem::path& path) const {
    return json::parse(ReadFile(path).value_or(""), nullptr, false);
  }

  std::filesystem::path root_;
  JobSpec spec_;
};

TEST_F(KeepTest, AddsEachEventOnceAcrossRestartsOfTheLauncher) {
  const std::string one = R"({"sequence":1,"kind":"a"})";
  const std::string two = R"({"sequence":2,"kind":"b"})";
  const std::string three = R"({"sequence":3,"kind":"c"})";
  EventFile(folder()).Add(fmt::format("{}\n{}", one, two));
  EventFile again(folder());
  EXPECT_EQ(again.last_sequence(), 2U);
  again.Add(fmt::format("{}\n{}\n", two, three));
  again.Add(R"({"event":"progress","step":7})");
  EXPECT_EQ(ReadFile(folder().events()).value(), fmt::format("{}\n{}\n{}\n", one, two, three));
}

TEST_F(KeepTest, KeepsTheEndAsALocalJobDoes) {
  const std::string finished =
      R"({"event":"finished","phase":"succeeded","step":9,"loss":0.5,"message":"done"})";
  KeepEnd(folder(), spec_, finished,
          R"({"name":"a","platform":"kubernetes","phase":"running","step":8,"world_size":2,
              "workers":[{"id":"w-0","state":"finished"},{"id":"w-1","state":"training"}]})");
  EXPECT_EQ(ReadFile(folder().result()).value(), fmt::format("{}\n", finished));
  const json status = Read(folder().status());
  EXPECT_EQ(status["phase"], "succeeded");
  EXPECT_EQ(status["message"], "done");
  EXPECT_EQ(status["step"], 9);
  EXPECT_EQ(status["world_size"], 0);
  EXPECT_EQ(status["workers"][0]["state"], "finished");
  EXPECT_EQ(status["workers"][1]["state"], "gone");
}

TEST_F(KeepTest, UsesWhatTheFolderHasIfNoStatusIsKnown) {
  KeepStatus(folder(), R"({"name":"a","platform":"kubernetes","step":3,"total_steps":10})");
  KeepEnd(folder(), spec_, R"({"phase":"failed","message":"m"})", "");
  EXPECT_EQ(Read(folder().status())["total_steps"], 10);
  EXPECT_EQ(Read(folder().status())["phase"], "failed");
}

TEST_F(KeepTest, BearsAnEndThatIsNoObject) {
  KeepEnd(folder(), spec_, "[]", "");
  const json status = Read(folder().status());
  EXPECT_EQ(status["phase"], "failed");
  EXPECT_EQ(status["platform"], "kubernetes");
}

}  // namespace
}  // namespace muster::kubernetes
