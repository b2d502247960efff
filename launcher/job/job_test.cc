#include "launcher/job/job.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "runtime/base/files.h"

namespace muster {
namespace {

JobSpec SomeJob() {
  JobSpec spec;
  spec.name = "digits-7f3a";
  spec.id = std::string(32, 'a');
  spec.executable = "/usr/bin/digits";
  spec.argv = {"digits", "--steps", "4 00", "\xc3\xa9"};
  spec.cwd = "/tmp";
  spec.environment = {{"LEVEL", "010"}, {"EMPTY", ""}};
  spec.min_workers = 2;
  spec.max_workers = 5;
  spec.reduce = "float";
  spec.checkpoint = "/tmp/checkpoints";
  spec.checkpoint_every = 7;
  spec.resume = true;
  spec.step_timeout_ms = 1234;
  spec.detached = true;
  spec.supervisor_pid = 42;
  spec.created_ms = 1'700'000'000'000;
  return spec;
}

TEST(JobSpec, IsTheSameAfterARoundTripThroughJson) {
  const auto back = JobSpec::FromJson(SomeJob().ToJson());
  ASSERT_TRUE(back) << back.error().ToString();
  EXPECT_EQ(*back, SomeJob());
}

TEST(JobSpec, RefusesWhatIsNotAJob) {
  EXPECT_EQ(JobSpec::FromJson("{").error().code, Code::kInvalidArgument);
  EXPECT_EQ(JobSpec::FromJson("[]").error().code, Code::kInvalidArgument);
  EXPECT_EQ(JobSpec::FromJson("{\"name\": 3}").error().code, Code::kInvalidArgument);
}

TEST(JobSpec, RefusesNumbersThatNoIntegerCanHold) {
  for (const std::string number : {"1.5", "1e30", "99999999999999999999", "-1e300"}) {
    std::string text = SomeJob().ToJson();
    const std::string field = "\"step_timeout_ms\": ";
    const size_t at = text.find(field) + field.size();
    text.replace(at, text.find(',', at) - at, number);
    const auto spec = JobSpec::FromJson(text);
    ASSERT_FALSE(spec) << number;
    EXPECT_NE(spec.error().message.find("no integer"), std::string::npos) << number;
  }
}

TEST(JobSpec, NamesTheFieldThatIsOutOfRange) {
  JobSpec spec = SomeJob();
  spec.max_workers = 4097;
  EXPECT_EQ(spec.Validate().error().message, "max_workers is 4097, it must be 1 to 4096");
  spec = SomeJob();
  spec.min_workers = 6;
  EXPECT_EQ(spec.Validate().error().message, "min_workers is 6, it must be 1 to 5");
  spec = SomeJob();
  spec.reduce = "double";
  EXPECT_EQ(spec.Validate().error().message,
            "reduce is \"double\", it must be one of: exact, float");
  spec = SomeJob();
  spec.heartbeat_timeout_ms = 99;
  EXPECT_EQ(spec.Validate().error().message,
            "heartbeat_timeout_ms is 99, it must be 100 to 600000");
}

TEST(JobSpec, OfAnEarlierVersionHasNoEnvironment) {
  std::string text = SomeJob().ToJson();
  const size_t begin = text.find("\"environment\"");
  text.erase(begin, text.find("},", begin) + 2 - begin);
  const auto spec = JobSpec::FromJson(text);
  ASSERT_TRUE(spec) << spec.error().ToString();
  EXPECT_TRUE(spec->environment.empty());
}

TEST(JobSpec, DoesNotSetWhatTheLauncherSets) {
  for (const char* name : {"MUSTER_JOB", "", "A=B"}) {
    JobSpec spec = SomeJob();
    spec.environment = {{name, "x"}};
    EXPECT_FALSE(spec.Validate()) << name;
  }
}

TEST(JobSpec, DoesNotResumeFromNowhere) {
  JobSpec spec = SomeJob();
  spec.checkpoint.clear();
  EXPECT_FALSE(spec.Validate());
}

TEST(JobSpec, NamesOfJobsAreLowerCaseWordsWithDashes) {
  EXPECT_TRUE(IsJobName("a"));
  EXPECT_TRUE(IsJobName("digits-7f3a"));
  EXPECT_TRUE(IsJobName(std::string(63, 'x')));
  for (const std::string bad : {"", "-a", "a-", "A", "a_b", "a/b", "..", "a b"}) {
    EXPECT_FALSE(IsJobName(bad)) << bad;
  }
  EXPECT_FALSE(IsJobName(std::string(64, 'x')));
}

TEST(JobFolder, KeepsTheSecretToItsOwner) {
  const JobFolder folder{std::filesystem::path(::testing::TempDir())};
  ASSERT_TRUE(folder.WriteSecret(std::string(64, 'b')));
  struct stat facts;
  ASSERT_EQ(::stat(folder.secret().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
  EXPECT_EQ(folder.ReadSecret().value(), std::string(64, 'b'));
  ASSERT_TRUE(folder.WriteSecret("short"));
  EXPECT_EQ(folder.ReadSecret().error().code, Code::kInvalidArgument);
}

TEST(JobFolder, ReadsTheAddressItWrote) {
  const JobFolder folder{std::filesystem::path(::testing::TempDir())};
  ASSERT_TRUE(folder.WriteCoordinator({"127.0.0.1:4242", 17}));
  EXPECT_EQ(folder.ReadCoordinator().value(), (CoordinatorAddress{"127.0.0.1:4242", 17}));
  std::filesystem::remove(folder.gateway());  // of a run before this one
  EXPECT_EQ(folder.ReadGateway().error().code, Code::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(folder.gateway(), "0.0.0.0:80\n"));
  EXPECT_EQ(folder.ReadGateway().value(), (GatewayPlace{"0.0.0.0", 80}));
  for (const char* bad : {"", "80", "0.0.0.0", "0.0.0.0:", "0.0.0.0:x", "0.0.0.0:80x"}) {
    ASSERT_TRUE(WriteFileAtomically(folder.gateway(), bad));
    EXPECT_EQ(folder.ReadGateway().error().code, Code::kInvalidArgument) << bad;
  }
  ASSERT_TRUE(folder.WriteCoordinator({"127.0.0.1:4242", 17, "0.0.0.0:80"}));
  EXPECT_EQ(folder.ReadCoordinator().value(),
            (CoordinatorAddress{"127.0.0.1:4242", 17, "0.0.0.0:80"}));
}

}  // namespace
}  // namespace muster
