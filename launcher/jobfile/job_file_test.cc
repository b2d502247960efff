#include "launcher/jobfile/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/jobfile/schema.h"

namespace muster {
namespace {

std::string Errors(std::string_view text) {
  const auto job = ParseJobFile(text);
  return job ? "" : FormatErrors("f", job.error());
}

constexpr std::string_view kEverything = R"(
name: demo
platform: kubernetes
program:
  path: ./train
  args: [--steps, 400, --note, "no: 1"]
image: registry.example:5000/train@sha256:0123
environment:
  LEVEL: 010
  EMPTY: ""
pools:
  - name: big
    workers: 0:8
    device: {kind: gpu, count: 4}
    instance_types: [p5.48xlarge, a3-highgpu-8g]
    node_selector: {topology.kubernetes.io/zone: eu-1a, team: ""}
    capacity: spot
    priority_class: low
    growth: opportunistic
    drain: avoid
    resources: {cpu: 500m, memory: 1.5Gi}
  - name: base
    workers: 2
    device: cpu
    growth: step 2
collectives: host
device: cuda:3
reduce: float
checkpoint: {dir: ckpt, every_steps: 7, resume: true}
heartbeat_timeout_ms: 1000
step_timeout_ms: 2000
start_timeout_ms: 3000
files: [data, config.json]
)";

TEST(JobFile, ReadsEveryKey) {
  const auto job = ParseJobFile(kEverything);
  ASSERT_TRUE(job) << FormatErrors("f", job.error());
  EXPECT_EQ(job->name, "demo");
  EXPECT_EQ(job->platform, "kubernetes");
  EXPECT_EQ(job->program->path, "./train");
  EXPECT_THAT(job->program->args, testing::ElementsAre("--steps", "400", "--note", "no: 1"));
  EXPECT_EQ(job->image, "registry.example:5000/train@sha256:0123");
  EXPECT_EQ(job->environment.at("LEVEL"), "010");
  EXPECT_EQ(job->environment.at("EMPTY"), "");
  EXPECT_EQ(job->TotalWorkers(), (WorkerRange{2, 10}));
  Pool big;
  big.name = "big";
  big.workers = {0, 8};
  big.gpu = true;
  big.device_count = 4;
  big.instance_types = {"p5.48xlarge", "a3-highgpu-8g"};
  big.node_selector = {{"topology.kubernetes.io/zone", "eu-1a"}, {"team", ""}};
  big.capacity = "spot";
  big.priority_class = "low";
  big.growth = {Growth::Mode::kOpportunistic, 0};
  big.drain = false;
  big.cpu = "500m";
  big.memory = "1.5Gi";
  EXPECT_EQ(job->pools.at(0), big);
  EXPECT_EQ(job->pools.at(1).growth, (Growth{Growth::Mode::kStep, 2}));
  EXPECT_EQ(job->collectives, "host");
  EXPECT_EQ(job->device, "cuda:3");
  EXPECT_EQ(job->reduce, "float");
  EXPECT_EQ(job->checkpoint, (CheckpointRequest{"ckpt", 7, true}));
  EXPECT_EQ(job->heartbeat_timeout_ms, 1000);
  EXPECT_EQ(job->step_timeout_ms, 2000);
  EXPECT_EQ(job->start_timeout_ms, 3000);
  EXPECT_THAT(job->files, testing::ElementsAre("data", "config.json"));
  EXPECT_EQ(job->places.at("pools[0].device.count"), (Position{14, 32}));
  EXPECT_EQ(job->places.at("files[1]"), (Position{33, 15}));
}

TEST(JobFile, IsTheSameAfterARoundTripThroughJson) {
  const auto job = ParseJobFile(kEverything);
  const auto again = ParseJobFile(ToJson(*job));
  ASSERT_TRUE(again) << FormatErrors("f", again.error());
  EXPECT_EQ(*again, *job);
}

TEST(JobFile, NeedsNothing) {
  const auto job = ParseJobFile("{}");
  ASSERT_TRUE(job);
  EXPECT_EQ(*job, JobFile{});
  EXPECT_EQ(job->TotalWorkers(), std::nullopt);
  EXPECT_TRUE(NeedsKubernetes(*job).empty());
}

TEST(JobFile, NamesEachMistakeWithItsPlaceAndWhatWasMeant) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"workrs: 4\n", "f:1:1: there is no key \"workrs\" in a job file; did you mean workers?"},
      {"checkpoint:\n  dir: c\n  every_step: 5\n",
       "f:3:3: there is no key \"every_step\" in checkpoint; did you mean every_steps?"},
      {"checkpoint: {dir: c, zzzzzz: 5}\n",
       "f:1:22: there is no key \"zzzzzz\" in checkpoint; there are dir, every_steps, resume"},
      {"pools:\n  - name: a\n    workers: 2\n    devise: gpu\n",
       "f:4:5: there is no key \"devise\" in pools[0]; did you mean device?"},
      {"platform: kubernets\n",
       "f:1:11: platform is \"kubernets\", it must be one of local, kubernetes; did you mean "
       "kubernetes?"},
      {"reduce: [exact]\n", "f:1:9: reduce is a list, it must be text"},
      {"name: Upper\n",
       "f:1:7: name is \"Upper\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
       "letter or digit"},
      {"name:\n",
       "f:1:1: name has no value; write \"\" for an empty text, and quotes around ~ or null"},
      {"program: digits\n",
       "f:1:10: program is \"digits\", it must be a mapping with the keys path, args"},
      {"program: {args: [a]}\n", "f:1:10: program needs path"},
      {"program: {path: d, args: --steps 3}\n",
       "f:1:26: program.args is \"--steps 3\", it must be a list"},
      {"program:\n  path: d\n  args:\n    - a\n    - ~\n",
       "f:5:7: program.args[1] has no value; write \"\" for an empty text, and quotes around ~ or "
       "null"},
      {"image: two words\n",
       "f:1:8: image is \"two words\", which is no image's name, such as "
       "registry.example/train:1.2"},
      {"environment: [A=1]\n", "f:1:14: environment is a list, it must be a mapping"},
      {"environment: {A: 1, 2B: 3}\n",
       "f:1:21: environment has the name \"2B\", it must be letters, digits and _, and not begin "
       "with a digit"},
      {"environment: {MUSTER_JOB: x}\n",
       "f:1:15: environment has the name \"MUSTER_JOB\", which the launcher sets itself"},
      {"environment: {A: [x]}\n", "f:1:18: environment.A is a list, it must be text"},
      {"workers: 0\n",
       "f:1:10: workers is \"0\", it must be a number from 1 to 4096, or two of them as MIN:MAX"},
      {"checkpoint: {every_steps: 10}\n", "f:1:13: checkpoint needs dir"},
      {"checkpoint: {dir: c, resume: yes}\n",
       "f:1:30: checkpoint.resume is \"yes\", it must be true or false"},
      {"checkpoint: {dir: \"\"}\n", "f:1:19: checkpoint.dir is \"\", it must not be empty"},
      {"device: tpu\n", "f:1:9: device is \"tpu\", it must be auto, cpu, cuda or cuda:N"},
      {"heartbeat_timeout_ms: 99\n",
       "f:1:23: heartbeat_timeout_ms is 99, it must be a whole number from 100 to 600000"},
      {"- a\n",
       "f:1:1: the job is a list, it must be a mapping with the keys name, platform, program, "
       "image, environment, workers, pools, collectives, device, reduce, "
       "checkpoint, heartbeat_timeout_ms, step_timeout_ms, start_timeout_ms, files"},
  };
  for (const auto& [text, errors] : cases) EXPECT_EQ(Errors(text), errors) << text;
}

// The errors of a pool with `lines`, each indented as its keys are; its name is in line 2, so the first of them in line 4.
std::string PoolErrors(const std::string& lines, const std::string& workers = "2") {
  return Errors("pools:\n  - name: a\n    workers: " + workers + "\n    " + lines + "\n");
}

TEST(JobFile, NamesEachMistakeOfAPool) {
  EXPECT_EQ(PoolErrors("device: tpu"),
            "f:4:13: pools[0].device is \"tpu\", it must be one of cpu, gpu; did you mean cpu?");
  EXPECT_EQ(PoolErrors("device: {kind: gpu, count: 0}"),
            "f:4:32: pools[0].device.count is 0, it must be a whole number from 1 to 64");
  EXPECT_EQ(PoolErrors("device: {kind: gpu, count: 4}", "4:6"),
            "f:4:32: pools[0].device.count is 4, which does not divide the workers of the pool: a "
            "pod has a worker on each of its devices");
  EXPECT_EQ(PoolErrors("instance_types: m5.large"),
            "f:4:21: pools[0].instance_types is \"m5.large\", it must be a list");
  EXPECT_EQ(PoolErrors("instance_types: [\"\"]"),
            "f:4:22: pools[0].instance_types[0] is \"\", it must not be empty");
  EXPECT_EQ(PoolErrors("node_selector: {-x: y}"),
            "f:4:21: pools[0].node_selector has the name \"-x\", which is no label's name, such as "
            "topology.kubernetes.io/zone");
  EXPECT_EQ(PoolErrors("node_selector: {x: a b}"),
            "f:4:24: pools[0].node_selector.x is \"a b\", it must be at most 63 letters, digits, "
            "-, _ and ., a letter or digit at both ends");
  EXPECT_EQ(PoolErrors("capacity: on_demand"),
            "f:4:15: pools[0].capacity is \"on_demand\", it must be one of on-demand, spot, any; "
            "did you mean on-demand?");
  EXPECT_EQ(PoolErrors("priority_class: Low"),
            "f:4:21: pools[0].priority_class is \"Low\", it must be a-z, 0-9, - and ., a letter or "
            "digit at both ends");
  for (const std::string growth : {"step 0", "step", "step 04", "step x", "Max", "step 4097"}) {
    EXPECT_EQ(PoolErrors("growth: " + growth),
              fmt::format("f:4:13: pools[0].growth is \"{}\", it must be max, step K with K from 1 "
                          "to 4096, or opportunistic",
                          growth));
  }
  EXPECT_EQ(PoolErrors("growth: opportunistic"),
            "f:4:13: pools[0].growth is opportunistic, which needs priority_class: one below -10, "
            "for which no autoscaler buys machines");
  for (const std::string cpu : {"0", "4x", "0m", "-1", "1e3", "m", "."}) {
    EXPECT_EQ(PoolErrors("resources: {cpu: " + cpu + "}"),
              fmt::format("f:4:22: pools[0].resources.cpu is \"{}\", it must be a number of cores, "
                          "such as 4, 0.5 or 500m",
                          cpu));
  }
  EXPECT_EQ(PoolErrors("resources: {memory: 8GB}"),
            "f:4:25: pools[0].resources.memory is \"8GB\", it must be a number of bytes, such as "
            "512Mi, 8Gi or 1G");
}

TEST(JobFile, NamesWhatDoesNotFitTogether) {
  EXPECT_EQ(
      Errors("workers: 4\npools: [{name: a, workers: 2}]\n"),
      "f:2:8: pools cannot be given beside workers: the pools say how many workers there are");
  EXPECT_EQ(
      Errors("pools: [{name: a, workers: 2}]\nworkers: 4\n"),
      "f:2:10: workers cannot be given beside pools: the pools say how many workers there are");
  EXPECT_EQ(Errors("pools: [{name: a, workers: 1}, {name: a, workers: 1}]\n"),
            "f:1:39: pools[1].name is \"a\", as that of a pool above");
  EXPECT_EQ(
      Errors("pools: [{name: a-12, workers: 2}, {name: a, workers: 2, device: {count: 2}}]\n"),
      "f:1:42: pools[1].name is \"a\" beside a pool \"a-12\": workers of both could have one name");
  EXPECT_EQ(Errors("pools: [{name: a, workers: 0:1}, {name: b, workers: 0:1}]\n"),
            "f:1:8: pools have a minimum of 0 workers in total, at least 1 is needed");
  EXPECT_EQ(Errors("pools: [{name: a, workers: 4096}, {name: b, workers: 1}]\n"),
            "f:1:8: pools have up to 4097 workers in total, at most 4096 are allowed");
  EXPECT_EQ(Errors("pools: []\n"),
            "f:1:8: pools is an empty list, it must be a list of mappings with the keys name, "
            "workers, device, instance_types, node_selector, capacity, priority_class, growth, "
            "drain, resources");
  EXPECT_EQ(Errors("pools: [{workers: 2}, {name: b}]\n"),
            "f:1:9: pools[0] needs name\nf:1:23: pools[1] needs workers");
}

TEST(JobFile, ReportsAllErrorsAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(Errors("workers: none\nname: A\nreduce: exact\nreduce: float\nnme: x\nfiles: &f [a]\n"),
            "f:1:10: workers is \"none\", it must be a number from 1 to 4096, or two of them as "
            "MIN:MAX\n"
            "f:2:7: name is \"A\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
            "letter or digit\n"
            "f:4:1: \"reduce\" is given twice, first in line 3\n"
            "f:5:1: there is no key \"nme\" in a job file; did you mean name?\n"
            "f:6:8: anchors are not allowed; write the value out");
}

TEST(JobFile, ReportsASyntaxErrorWithoutGuessingAtTheRest) {
  EXPECT_EQ(Errors("a: 1\nprogram:\n  args: [x\nname: y\n"),
            "f:3:10: text without quotes goes on in the next line; put it in quotes\n"
            "f:4:5: a \"[\" before this is not closed, or a comma is missing");
}

TEST(JobFile, ReportsALimitedNumberOfErrors) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += fmt::format("k{}: 1\n", i);
  const std::string errors = Errors(text);
  EXPECT_THAT(errors, testing::HasSubstr("f:20:1: "));
  EXPECT_THAT(errors, testing::Not(testing::HasSubstr("f:21:1: ")));
  EXPECT_THAT(errors, testing::EndsWith("\nand 10 more errors"));
}

TEST(JobFile, SaysWhatOnlyKubernetesCanHonour) {
  const auto job = ParseJobFile(kEverything);
  EXPECT_EQ(FormatErrors("f", NeedsKubernetes(*job)),
            "f:7:8: image needs --platform kubernetes\n"
            "f:14:20: pools[0].device.kind gpu needs --platform kubernetes\n"
            "f:15:21: pools[0].instance_types needs --platform kubernetes\n"
            "f:16:20: pools[0].node_selector needs --platform kubernetes\n"
            "f:17:15: pools[0].capacity needs --platform kubernetes\n"
            "f:18:21: pools[0].priority_class needs --platform kubernetes\n"
            "f:19:13: pools[0].growth needs --platform kubernetes\n"
            "f:20:12: pools[0].drain needs --platform kubernetes\n"
            "f:21:16: pools[0].resources needs --platform kubernetes\n"
            "f:25:13: pools[1].growth needs --platform kubernetes");
  const auto local = ParseJobFile(
      "pools: [{name: a, workers: 2, device: {kind: cpu, count: 2}, capacity: any, growth: max, "
      "drain: allow}]\n");
  EXPECT_TRUE(NeedsKubernetes(*local).empty());
  EXPECT_EQ(NeedsKubernetes(*ParseJobFile("pools: [{name: a, workers: 2, device: gpu}]")).size(),
            1U);
}

TEST(Schema, HasARowForEachKeyAndAJsonSchema) {
  EXPECT_THAT(KeysOf("checkpoint"), testing::ElementsAre("dir", "every_steps", "resume"));
  EXPECT_DEATH((void)FieldOf("nonsense"), "no row of the schema: nonsense");
  EXPECT_THAT(JsonSchema(), testing::HasSubstr("\"additionalProperties\": false"));
}

}  // namespace
}  // namespace muster
