// Job file: what users write, in YAML or JSON, and job.json, which `launcher run` writes. The input is the text.
//
// Beside the general promises: a job that is read is written as JSON that is read as the same job; every error has a place within
// the text and a sentence of bounded length; what a message shows of the text is valid UTF-8.
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/job.h"
#include "launcher/jobfile/job_file.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

constexpr size_t kLongestMessage = 600;

void CheckErrors(std::string_view text, const std::vector<FileError>& errors) {
  MUSTER_CHECK(!errors.empty(), "refused without a reason");
  const auto lines =
      std::count_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; });
  for (const FileError& error : errors) {
    MUSTER_CHECK(error.at.line >= 1 && error.at.line <= lines + 1 && error.at.column >= 1,
                 "{}:{}: {}", error.at.line, error.at.column, error.message);
    MUSTER_CHECK(!error.message.empty() && error.message.size() <= kLongestMessage &&
                     FitsIntoJson(error.message),
                 "{}", error.message);
  }
  MUSTER_CHECK(!FormatErrors("job.yaml", errors).empty());
}

void CheckJobFile(std::string_view text) {
  const auto job = ParseJobFile(text);
  if (!job) return CheckErrors(text, job.error());
  const std::string written = ToJson(*job);
  const auto again = ParseJobFile(written);
  MUSTER_CHECK(again.has_value(), "{}{}", written, FormatErrors("written", again.error()));
  MUSTER_CHECK(*again == *job, "{}{}", written, ToJson(*again));
  const std::vector<FileError> needs = NeedsKubernetes(*job);
  if (!needs.empty()) CheckErrors(text, needs);
  (void)job->TotalWorkers();
}

void CheckJobSpec(std::string_view text) {
  const auto job = JobSpec::FromJson(text);
  if (!job) return CheckError(job.error());
  const auto again = JobSpec::FromJson(job->ToJson());
  MUSTER_CHECK(again.has_value(), "{}", again.error().message);
  MUSTER_CHECK(*again == *job, "{}", job->ToJson());
}

constexpr std::string_view kBlockStyle = R"(# a job on two kinds of machines
name: demo
platform: kubernetes
program:
  path: ./train
  args:
    - --steps
    - "4 00"
    - 'it''s'
image: registry.example/train:1
environment: {A: no, B: "\u00e9"}
pools:
  - name: a
    workers: 2:4
    device: {kind: gpu, count: 2}
    instance_types: [m5.large]
    node_selector: {zone/x: "1"}
    capacity: spot
    growth: step 2
    resources: {cpu: 250m, memory: 512Mi}
  - {name: b, workers: 0:3, drain: avoid, priority_class: low}
checkpoint:
  dir: c
  every_steps: 10
  resume: true
heartbeat_timeout_ms: 3000
files:
  - data
)";

JobFile SomeJob() {
  JobFile job;
  job.name = "demo";
  job.platform = "local";
  job.program = ProgramRequest{"./train", {"--steps", "400", "\x7f \xC2\x85 \n"}};
  job.environment = {{"A", "no"}};
  job.workers = WorkerRange{2, 8};
  job.collectives = "host";
  job.device = "cuda:0";
  job.reduce = "exact";
  job.checkpoint = CheckpointRequest{"c", 10, false};
  job.step_timeout_ms = 60'000;
  return job;
}

JobSpec SomeSpec() {
  JobSpec spec;
  spec.name = "demo";
  spec.id = std::string(32, 'a');
  spec.executable = "/usr/bin/train";
  spec.argv = {"./train", "--steps", "400"};
  spec.cwd = "/tmp";
  spec.bundle = std::string(64, 'b');
  spec.environment = {{"A", "no"}};
  spec.max_workers = 4;
  spec.checkpoint = "/tmp/c";
  spec.resume = true;
  return spec;
}

}  // namespace

std::vector<Seed> Seeds() {
  return {{"block.yaml", std::string(kBlockStyle)},
          {"written.json", ToJson(SomeJob())},
          {"small.yaml", "workers: 4\nprogram: {path: ./a, args: [x, ~, 010]}\n"},
          {"strange.yaml", "a: &b\n  - *b\n? [k]\n: !!int 3\n--- |\n  text\n"},
          {"job.json", SomeSpec().ToJson()}};
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  muster::fuzz::CheckJobFile(text);
  muster::fuzz::CheckJobSpec(text);
  return 0;
}
