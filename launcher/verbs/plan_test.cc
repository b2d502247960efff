#include <gtest/gtest.h>

#include <filesystem>

#include "launcher/verbs/run.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using Words = std::vector<std::string>;

// Plans `launcher run ARGUMENTS -- /bin/true`.
Result<JobSpec> Plan(Words arguments, Words program = {"/bin/true", "--steps", "3"}) {
  arguments.push_back("--");
  arguments.insert(arguments.end(), program.begin(), program.end());
  const auto invocation = ParseInvocation(Verbs().front(), arguments);
  if (!invocation) return tl::unexpected(invocation.error());
  auto plan = PlanRun(*invocation, PlanFor::kRun);
  if (!plan) return tl::unexpected(plan.error());
  return plan->spec;
}

TEST(Plan, HasDefaultsForEverythingButTheProgram) {
  const auto spec = Plan({});
  ASSERT_TRUE(spec) << spec.error().ToString();
  EXPECT_EQ(spec->argv, (Words{"/bin/true", "--steps", "3"}));
  EXPECT_EQ(spec->executable, "/bin/true");
  EXPECT_TRUE(IsJobName(spec->name));
  EXPECT_TRUE(spec->name.starts_with("true-"));
  EXPECT_EQ(spec->min_workers, spec->max_workers);
  EXPECT_EQ(spec->reduce, "exact");
  EXPECT_TRUE(spec->checkpoint.empty());
}

TEST(Plan, TakesEveryFlag) {
  const std::string folder = ::testing::TempDir() + "/plan-checkpoints";
  const auto spec = Plan({"--name",
                          "a-1",
                          "--workers",
                          "2:5",
                          "--platform",
                          "local",
                          "--collectives",
                          "host",
                          "--device",
                          "cpu",
                          "--reduce",
                          "float",
                          "--checkpoint",
                          folder,
                          "--checkpoint-every",
                          "7",
                          "--resume",
                          "--detach",
                          "--heartbeat-timeout-ms",
                          "100",
                          "--step-timeout-ms",
                          "200",
                          "--start-timeout-ms",
                          "300",
                          "-y"});
  ASSERT_TRUE(spec) << spec.error().ToString();
  EXPECT_EQ(spec->name, "a-1");
  EXPECT_EQ(spec->min_workers, 2);
  EXPECT_EQ(spec->max_workers, 5);
  EXPECT_EQ(spec->collectives, "host");
  EXPECT_EQ(spec->device, "cpu");
  EXPECT_EQ(spec->reduce, "float");
  EXPECT_EQ(spec->checkpoint, folder);
  EXPECT_EQ(spec->checkpoint_every, 7U);
  EXPECT_TRUE(spec->resume);
  EXPECT_TRUE(spec->detached);
  EXPECT_EQ(spec->heartbeat_timeout_ms, 100);
  EXPECT_EQ(spec->step_timeout_ms, 200);
  EXPECT_EQ(spec->start_timeout_ms, 300);
}

TEST(Plan, RefusesEveryValueOutOfRangeAndNamesIt) {
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"--workers", "0"}, "--workers"},
      {{"--name", "A"}, "--name"},
      {{"--name", ""}, "--name"},
      {{"--platform", "mars"}, "--platform"},
      {{"--collectives", "mpi"}, "--collectives mpi"},
      {{"--collectives", "x"}, "--collectives"},
      {{"--device", "gpu"}, "--device"},
      {{"--reduce", "double"}, "--reduce"},
      {{"-f", "no-job.yaml"}, "-f no-job.yaml"},
      {{"--heartbeat-timeout-ms", "99"}, "--heartbeat-timeout-ms"},
      {{"--heartbeat-timeout-ms", "600001"}, "--heartbeat-timeout-ms"},
      {{"--step-timeout-ms", "-5"}, "--step-timeout-ms"},
      {{"--start-timeout-ms", "1e9"}, "--start-timeout-ms"},
      {{"--checkpoint", ::testing::TempDir(), "--checkpoint-every", "0"}, "--checkpoint-every"},
      {{"--checkpoint-every", "5"}, "--checkpoint-every"},
      {{"--resume"}, "--resume"},
      {{"--checkpoint", "/bin/true"}, "--checkpoint"},
      {{"--checkpoint", "/proc/nothing"}, "--checkpoint"},
      {{"--checkpoint", ""}, "--checkpoint"},
  };
  for (const auto& [arguments, named] : cases) {
    const auto spec = Plan(arguments);
    ASSERT_FALSE(spec) << named;
    EXPECT_NE(spec.error().message.find(named), std::string::npos) << spec.error().message;
    EXPECT_EQ(ExitCodeOf(spec.error().code), 2) << spec.error().message;
  }
}

TEST(Plan, NeedsAProgram) {
  const auto spec = Plan({}, {});
  ASSERT_FALSE(spec);
  EXPECT_EQ(spec.error().message, "no program is given");
  EXPECT_EQ(Plan({}, {"/bin/true", "\xff"}).error().code, Code::kInvalidArgument);
}

// --- For a cluster ---

// Plans `launcher render -f FILE ARGUMENTS` for a file with that text.
Result<RunPlan> PlanCluster(const std::string& text, Words arguments = {}) {
  const std::string file = ::testing::TempDir() + "/plan-cluster.yaml";
  EXPECT_TRUE(WriteFileAtomically(file, text));
  arguments.insert(arguments.begin(), {"-f", file});
  for (const Verb& verb : Verbs()) {
    if (verb.name != "render") continue;
    const auto invocation = ParseInvocation(verb, arguments);
    if (!invocation) return tl::unexpected(invocation.error());
    return PlanRun(*invocation, PlanFor::kCluster);
  }
  return Err(Code::kNotFound, "no verb render");
}

TEST(PlanForACluster, TakesWhatThisMachineCannotHonour) {
  const auto plan = PlanCluster(
      "name: demo\nplatform: kubernetes\nprogram: {path: /bin/true}\n"
      "pools: [{name: a, workers: 4, device: gpu, capacity: spot}]\n");
  ASSERT_TRUE(plan) << plan.error().ToString();
  EXPECT_EQ(plan->spec.executable, "/muster/job/bin/true");
  EXPECT_EQ(plan->sources, (std::vector<BundleSource>{{"/bin/true", "bin/true"}}));
  EXPECT_EQ(plan->spec.max_workers, 4);
  EXPECT_EQ(plan->file.pools.at(0).capacity, "spot");
  EXPECT_TRUE(plan->set_aside.empty());
  EXPECT_EQ(plan->values.at(1).value, "kubernetes");
}

TEST(PlanForACluster, HasThePathsOfContainers) {
  const auto plan = PlanCluster(
      "program: {path: /opt/my/train, args: [-x]}\nimage: mine:1\ncheckpoint: {dir: ckpt/}\n");
  ASSERT_TRUE(plan) << plan.error().ToString();
  EXPECT_EQ(plan->spec.executable, "/opt/my/train");  // of the image, not of this machine
  EXPECT_TRUE(plan->sources.empty());
  EXPECT_EQ(plan->spec.argv, (Words{"/opt/my/train", "-x"}));
  EXPECT_EQ(plan->spec.cwd, "/muster/job");
  EXPECT_EQ(plan->spec.checkpoint, "/muster/job/ckpt/");
  // A file here, and perhaps a folder there.
  const auto there = PlanCluster("program: {path: /bin/true}\n", {"--checkpoint", "/bin/true"});
  ASSERT_TRUE(there) << there.error().ToString();
  EXPECT_EQ(there->spec.checkpoint, "/bin/true");
}

TEST(PlanForACluster, NamesTheFilesToSend) {
  const std::string folder = ::testing::TempDir();
  std::filesystem::create_directories(folder + "/plan-data");
  const auto plan = PlanCluster(
      "program: {path: /opt/x}\nimage: mine:1\nfiles: [./plan-data/, plan-cluster.yaml]\n");
  ASSERT_TRUE(plan) << plan.error().ToString();
  ASSERT_EQ(plan->sources.size(), 2U);
  EXPECT_EQ(plan->sources[0].path, "plan-cluster.yaml");
  EXPECT_EQ(plan->sources[1].path, "plan-data");
  EXPECT_TRUE(std::filesystem::equivalent(plan->sources[1].source, folder + "/plan-data"));

  const auto flags =
      PlanCluster("program: {path: /bin/true}\n",
                  {"--send", "docs", "--send", "./tools/check_tree", "--send", "docs"});
  ASSERT_TRUE(flags) << flags.error().ToString();
  ASSERT_EQ(flags->sources.size(), 3U);
  EXPECT_EQ(flags->sources[1].path, "docs");
  EXPECT_EQ(flags->sources[2].path, "tools/check_tree");
}

TEST(PlanForACluster, RefusesFilesThatWouldLandOutside) {
  const auto outside =
      PlanCluster("program: {path: /bin/true}\nfiles: [.., /etc/hosts, gone, .]\n");
  ASSERT_FALSE(outside);
  for (const char* text : {"has 4 errors", "yaml:2:9: files[0] is ..: ", "leads out of its folder",
                           "files[1] is /etc/hosts", "must be relative", "files[2] is ",
                           "not there", "files[3] is ."}) {
    EXPECT_NE(outside.error().message.find(text), std::string::npos)
        << text << " in " << outside.error().message;
  }
  const auto flag = PlanCluster("program: {path: /bin/true}\n", {"--send", "/etc/hosts"});
  ASSERT_FALSE(flag);
  EXPECT_NE(flag.error().message.find("--send is /etc/hosts"), std::string::npos);
  // On this machine the program finds them where they are.
  EXPECT_TRUE(Plan({"--send", "/etc/hosts"}));
}

TEST(PlanForACluster, RefusesWhatItCannotMean) {
  const auto local = PlanCluster("program: {path: /bin/true}\n", {"--platform", "local"});
  ASSERT_FALSE(local);
  EXPECT_NE(local.error().message.find("--platform is local"), std::string::npos);
  const auto relative = PlanCluster("program: {path: ./train}\nimage: mine:1\n");
  ASSERT_FALSE(relative);
  EXPECT_NE(relative.error().message.find("plan-cluster.yaml:1:17: program.path is \"./train\""),
            std::string::npos)
      << relative.error().message;
  EXPECT_FALSE(PlanCluster("program: {path: ./gone}\n"));
  const auto no_gpus = PlanCluster("program: {path: /bin/true}\ncollectives: nccl\n");
  ASSERT_FALSE(no_gpus);
  EXPECT_NE(
      no_gpus.error().message.find("plan-cluster.yaml:2:14: collectives nccl: no pool has GPUs"),
      std::string::npos)
      << no_gpus.error().message;
}

}  // namespace
}  // namespace muster
