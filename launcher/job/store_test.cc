#include "launcher/job/store.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

class JobStoreTest : public ::testing::Test {
 protected:
  JobStoreTest() {
    std::string pattern = ::testing::TempDir() + "/store-XXXXXX";
    home_ = ::mkdtemp(pattern.data());
  }
  ~JobStoreTest() override { fs::remove_all(home_); }

  static JobSpec Job(const std::string& name, int64_t created_ms = 1) {
    JobSpec spec;
    spec.name = name;
    spec.id = RandomHex(16);
    spec.executable = "/bin/true";
    spec.argv = {"true"};
    spec.cwd = "/";
    spec.created_ms = created_ms;
    return spec;
  }

  fs::path home_;
};

TEST_F(JobStoreTest, RefusesTheNameOfARunningJobAndReplacesAFinishedOne) {
  const JobStore store(home_);
  auto first = store.Create(Job("a"));
  ASSERT_TRUE(first) << first.error().ToString();
  EXPECT_TRUE(store.IsRunning("a"));

  const auto refused = store.Create(Job("a"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "a job named \"a\" is running already");

  first->lock.reset();
  EXPECT_FALSE(store.IsRunning("a"));
  const JobSpec second = Job("a");
  ASSERT_TRUE(store.Create(second));
  EXPECT_EQ(store.Folder("a").ReadSpec()->id, second.id);
  // Nothing half done stays behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(store.jobs()), fs::directory_iterator()), 1);
}

TEST_F(JobStoreTest, ListsTheNewestFirst) {
  const JobStore store(home_);
  ASSERT_TRUE(store.Create(Job("old", 1)));
  ASSERT_TRUE(store.Create(Job("new", 2)));
  const auto jobs = store.List();
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(jobs[0].name, "new");
}

TEST_F(JobStoreTest, KeepsARunningJobAndTheNewestOfTheFinishedOnes) {
  const JobStore store(home_);
  const auto running = store.Create(Job("running", 0));
  for (int i = 1; i < kKeptJobs + 5; ++i) {
    const JobSpec finished = Job(fmt::format("job-{}", i), i);
    fs::create_directories(store.Folder(finished.name).root());
    ASSERT_TRUE(store.Folder(finished.name).WriteSpec(finished));
  }
  ASSERT_TRUE(store.Create(Job("newest", kKeptJobs + 5)));
  const auto jobs = store.List();
  EXPECT_EQ(jobs.size(), kKeptJobs + 1U);
  EXPECT_EQ(jobs.back().name, "running");
  EXPECT_EQ(jobs.front().name, "newest");
}

TEST_F(JobStoreTest, SaysThatAJobHasFailedWhoseSupervisorDied) {
  const JobStore store(home_);
  auto job = store.Create(Job("a"));
  ASSERT_TRUE(job);
  EXPECT_EQ(store.ReadStatus("a")->at("phase"), "pending");

  ASSERT_TRUE(WriteFileAtomically(
      job->folder.status(), R"({"phase": "running", "step": 7, "workers": [{"id": "w-0"}]})"));
  EXPECT_EQ(store.ReadStatus("a")->at("phase"), "running");
  job->lock.reset();
  const auto status = store.ReadStatus("a");
  EXPECT_EQ(status->at("phase"), "failed");
  EXPECT_EQ(status->at("step"), 7);
  EXPECT_EQ(status->at("workers").at(0).at("state"), "gone");

  ASSERT_TRUE(WriteFileAtomically(job->folder.status(), R"({"phase": "succeeded"})"));
  EXPECT_EQ(store.ReadStatus("a")->at("phase"), "succeeded");
}

TEST_F(JobStoreTest, TellsNoSuchJobFromADamagedOne) {
  const JobStore store(home_);
  EXPECT_EQ(store.ReadStatus("a").error().code, Code::kNotFound);
  const auto job = store.Create(Job("a"));
  ASSERT_TRUE(WriteFileAtomically(job->folder.status(), "{"));
  EXPECT_EQ(store.ReadStatus("a").error().code, Code::kInvalidArgument);
}

TEST_F(JobStoreTest, AJobOnAClusterRunsUntilItsResultIsHere) {
  const JobStore store(home_);
  auto job = store.Create(Job("a", 0));
  const ClusterPlace place{"/k", "dev", "research", "a-12345", "some-uid"};
  ASSERT_TRUE(job->folder.WriteCluster(place));
  EXPECT_EQ(job->folder.ReadCluster().value(), place);
  EXPECT_TRUE(store.IsOnCluster("a"));
  EXPECT_TRUE(store.IsHeld("a"));
  EXPECT_EQ(store.Hold("a").error().code, Code::kAlreadyExists);

  job->lock.reset();
  EXPECT_FALSE(store.IsHeld("a"));
  EXPECT_TRUE(store.IsRunning("a"));
  EXPECT_EQ(store.ReadStatus("a")->at("phase"), "pending");
  EXPECT_EQ(store.ReadStatus("a")->at("platform"), "kubernetes");
  EXPECT_EQ(store.Create(Job("a")).error().code, Code::kAlreadyExists);
  for (int i = 1; i < kKeptJobs + 5; ++i) ASSERT_TRUE(store.Create(Job(fmt::format("b-{}", i), i)));
  EXPECT_TRUE(store.IsOnCluster("a")) << "it was removed as if it had ended";

  ASSERT_TRUE(WriteFileAtomically(job->folder.result(), "{}"));
  EXPECT_FALSE(store.IsRunning("a"));
  EXPECT_TRUE(store.Create(Job("a")));
  EXPECT_FALSE(store.IsOnCluster("a"));
}

TEST(MusterHome, FollowsTheEnvironment) {
  ::setenv("HOME", "/h", 1);
  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("MUSTER_HOME");
  EXPECT_EQ(MusterHome().value(), "/h/.local/state/muster");
  ::setenv("XDG_STATE_HOME", "/x", 1);
  EXPECT_EQ(MusterHome().value(), "/x/muster");
  ::setenv("MUSTER_HOME", "/m", 1);
  EXPECT_EQ(MusterHome().value(), "/m");
  ::unsetenv("MUSTER_HOME");
  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("HOME");
  EXPECT_EQ(MusterHome().error().code, Code::kFailedPrecondition);
}

}  // namespace
}  // namespace muster
