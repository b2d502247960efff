#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "launcher/job/store.h"
#include "launcher/verbs/program.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"
#include "runtime/state/checkpoint.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr int kMostDefaultWorkers = 4;
constexpr int64_t kMostSteps = 1'000'000'000'000;

int DefaultWorkers() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int count = ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return std::clamp(count, 1, kMostDefaultWorkers);
}

// What the contract names and this version does not have.
Status CheckAvailable(const Invocation& invocation) {
  const std::string platform = invocation.Get("platform");
  if (platform == "kubernetes") {
    return WithHint(
        Err(Code::kUnimplemented,
            "--platform kubernetes is not available in this version, it runs jobs on this machine"),
        "leave --platform out");
  }
  if (invocation.Has("platform") && platform != "local") {
    return Err(Code::kInvalidArgument, "--platform is \"{}\", it must be local or kubernetes",
               platform);
  }
  if (invocation.Has("file")) {
    return WithHint(
        Err(Code::kUnimplemented, "-f {} is not available in this version", invocation.Get("file")),
        "give the job as flags: launcher run --help");
  }
  const std::string collectives = invocation.Get("collectives");
  if (collectives == "nccl" || collectives == "mpi") {
    return WithHint(
        Err(Code::kUnimplemented, "--collectives {} is not available in this version, it has host",
            collectives),
        "leave --collectives out");
  }
  return {};
}

Result<std::string> ChoiceOf(const Invocation& invocation, const std::string& option,
                             std::initializer_list<std::string_view> allowed) {
  const std::string value =
      invocation.Has(option) ? invocation.Get(option) : std::string(*allowed.begin());
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return value;
  return Err(Code::kInvalidArgument, "--{} is \"{}\", it must be one of: {}", option, value,
             fmt::join(allowed, ", "));
}

Status ReadTimeout(const Invocation& invocation, const std::string& option, int64_t high,
                   int& value) {
  if (!invocation.Has(option)) return {};
  MUSTER_ASSIGN(const int64_t number,
                ParseNumber("--" + option, invocation.Get(option), 100, high));
  value = static_cast<int>(number);
  return {};
}

Status PlanCheckpoints(const Invocation& invocation, JobSpec& spec) {
  spec.resume = invocation.Has("resume");
  if (!invocation.Has("checkpoint")) {
    const char* needs = spec.resume                          ? "--resume"
                        : invocation.Has("checkpoint-every") ? "--checkpoint-every"
                                                             : nullptr;
    if (needs == nullptr) return {};
    return WithHint(Err(Code::kInvalidArgument, "{} needs to know where checkpoints are", needs),
                    "add --checkpoint DIR");
  }
  if (invocation.Has("checkpoint-every")) {
    MUSTER_ASSIGN(
        const int64_t every,
        ParseNumber("--checkpoint-every", invocation.Get("checkpoint-every"), 1, kMostSteps));
    spec.checkpoint_every = static_cast<uint64_t>(every);
  }
  if (invocation.Get("checkpoint").empty()) {
    return Err(Code::kInvalidArgument, "--checkpoint is \"\", it must be a folder");
  }
  std::error_code error;
  spec.checkpoint = fs::absolute(invocation.Get("checkpoint"), error).lexically_normal();
  if (fs::exists(spec.checkpoint, error) && !fs::is_directory(spec.checkpoint, error)) {
    return Err(Code::kInvalidArgument, "--checkpoint is \"{}\", which is a file, not a folder",
               spec.checkpoint.string());
  }
  // Without --resume a run starts at step 0; an older run's checkpoints would be taken for its own later.
  if (const auto old = ListCheckpoints(spec.checkpoint); !spec.resume && !old.empty()) {
    return WithHint(Err(Code::kInvalidArgument,
                        "--checkpoint {} holds checkpoints up to step {} of an earlier run",
                        spec.checkpoint.string(), old.front().step),
                    "add --resume to go on from there, or name another folder");
  }
  // A resume must find the folder; a first run makes it, now rather than after an hour of training.
  if (!spec.resume) fs::create_directories(spec.checkpoint, error);
  if (!spec.resume && (error || ::access(spec.checkpoint.c_str(), W_OK) != 0)) {
    return Err(Code::kInvalidArgument, "--checkpoint is \"{}\", where nothing can be written: {}",
               spec.checkpoint.string(), error ? error.message() : "Permission denied");
  }
  return {};
}

Status PlanProgram(const Invocation& invocation, JobSpec& spec) {
  if (!invocation.has_program || invocation.program.empty()) {
    return WithHint(
        Err(Code::kInvalidArgument, "no program is given"),
        "put it after `--`, for example: launcher run --workers 4 -- digits --steps 400");
  }
  const char* path = std::getenv("PATH");
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  MUSTER_ASSIGN(spec.executable,
                FindProgram(invocation.program[0], path == nullptr ? "/usr/bin:/bin" : path, own));
  spec.argv = invocation.program;
  spec.cwd = fs::current_path(error);
  if (error) {
    return WithHint(Err(Code::kFailedPrecondition, "the current folder is not there any more: {}",
                        error.message()),
                    "change to another folder");
  }
  return {};
}

// job.json is text; bytes that are none would not arrive as they were typed.
Status CheckText(const JobSpec& spec) {
  std::vector<std::string> words = spec.argv;
  words.insert(words.end(),
               {spec.executable.string(), spec.cwd.string(), spec.checkpoint.string()});
  for (const std::string& word : words) {
    try {
      (void)nlohmann::json(word).dump();
    } catch (const nlohmann::json::exception&) {
      return Err(
          Code::kInvalidArgument,
          "the argument or path \"{}\" is not valid UTF-8, which a job cannot keep",
          nlohmann::json(word).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
  }
  return {};
}

}  // namespace

Result<JobSpec> PlanJob(const Invocation& invocation) {
  MUSTER_TRY(CheckAvailable(invocation));
  JobSpec spec;
  WorkerRange workers{DefaultWorkers(), DefaultWorkers()};
  if (invocation.Has("workers")) {
    MUSTER_ASSIGN(workers, ParseWorkers("--workers", invocation.Get("workers")));
  }
  spec.min_workers = workers.min;
  spec.max_workers = workers.max;
  MUSTER_ASSIGN(spec.reduce, ChoiceOf(invocation, "reduce", {"exact", "float"}));
  MUSTER_ASSIGN(spec.collectives, ChoiceOf(invocation, "collectives", {"auto", "host"}));
  MUSTER_TRY(ReadTimeout(invocation, "heartbeat-timeout-ms", 600'000, spec.heartbeat_timeout_ms));
  MUSTER_TRY(ReadTimeout(invocation, "step-timeout-ms", 86'400'000, spec.step_timeout_ms));
  MUSTER_TRY(ReadTimeout(invocation, "start-timeout-ms", 86'400'000, spec.start_timeout_ms));
  spec.name = invocation.Get("name");
  if (invocation.Has("name") && !IsJobName(spec.name)) {
    return Err(Code::kInvalidArgument,
               "--name is \"{}\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
               "letter or digit",
               spec.name.substr(0, 100));
  }
  MUSTER_TRY(PlanProgram(invocation, spec));
  MUSTER_TRY(PlanCheckpoints(invocation, spec));
  MUSTER_TRY(CheckText(spec));
  if (spec.name.empty()) spec.name = NameFor(spec.argv[0], RandomHex(2));
  spec.detached = invocation.Has("detach");
  return spec;
}

}  // namespace muster
