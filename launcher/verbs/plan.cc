#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "launcher/platform/kubernetes/objects.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/gpus.h"
#include "launcher/verbs/origins.h"
#include "launcher/verbs/program.h"
#include "launcher/verbs/request.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/shipping.h"
#include "launcher/verbs/text.h"
#include "runtime/base/device_choice.h"
#include "runtime/state/checkpoint.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr int kMostDefaultWorkers = 4;
constexpr int64_t kMostSteps = 1'000'000'000'000;

// One for every GPU that is asked for, else for every core.
int DefaultWorkers(const std::string& device) {
  if (device == "cuda") {
    if (const auto devices = cuda::ListDevices()) return static_cast<int>(devices->size());
  }
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int count = ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return std::clamp(count, 1, kMostDefaultWorkers);
}

// What only a cluster can honour: an error, unless the user says that the job shall run here all the same.
Status CheckMachines(const Request& request, RunPlan& plan) {
  for (const FileError& error : NeedsKubernetes(request.file())) {
    plan.set_aside.push_back(fmt::format("{}:{}:{}: {}", request.file_name(), error.at.line,
                                         error.at.column,
                                         error.message.substr(0, error.message.find(" needs "))));
  }
  if (plan.set_aside.empty() || request.HasFlag("platform")) return {};
  return WithHint(request.Refuse(NeedsKubernetes(request.file())),
                  "--platform local on the command line runs the file here and sets these aside");
}

Status CheckPlatform(const Request& request, PlanFor purpose) {
  if (const auto valid = IsForKubernetes(request.flags()); !valid) {
    return tl::unexpected(valid.error());
  }
  if (purpose != PlanFor::kCluster || request.flags().Get("platform") != "local") return {};
  return WithHint(
      Err(Code::kInvalidArgument, "--platform is local, where there are no Kubernetes objects"),
      "leave --platform out");
}

// Its hint says what to do without a GPU.
tl::unexpected<Error> WithoutGpu(const std::string& asked, const Error& error,
                                 const std::string& otherwise) {
  return WithHint(Err(error.code, "{}: {}", asked, error.message),
                  error.hint.empty() ? otherwise : fmt::format("{}; or {}", error.hint, otherwise));
}

// Whether there is what they need, as far as that can be known here.
Status CheckCollectives(const Request& request, const JobSpec& spec, bool cluster) {
  const std::string asked =
      fmt::format("{} {}", request.NameOf("collectives", "collectives"), spec.collectives);
  if (spec.collectives == "mpi") {
    return WithHint(
        Err(Code::kUnimplemented, "{} is not available in this version, it has host and nccl",
            asked),
        request.HasFlag("collectives") ? "leave --collectives out" : "use auto, host or nccl");
  }
  if (spec.collectives != "nccl") return {};
  const std::string otherwise = "use host, and train on the CPU";
  if (!cluster) {
    const Status gpus = FindGpus();
    return gpus ? gpus : WithoutGpu(asked, gpus.error(), otherwise);
  }
  if (std::ranges::any_of(request.file().pools, &Pool::gpu)) return {};
  return WithoutGpu(asked, {Code::kInvalidArgument, "no pool has GPUs", ""},
                    "give the pools device: gpu, or use host");
}

Status CheckDevice(const Request& request, const JobSpec& spec, bool cluster) {
  const auto choice = DeviceChoice::Parse(spec.device);
  const std::string asked = fmt::format("{} {}", request.NameOf("device", "device"), spec.device);
  if (!choice) {
    return Err(Code::kInvalidArgument, "{}: it must be {}", asked, kDeviceChoices);
  }
  if (cluster || choice->kind != DeviceChoice::Kind::kCuda) return {};
  const auto devices = cuda::ListDevices();
  if (!devices) return WithoutGpu(asked, devices.error(), "train on the CPU with cpu");
  if (std::cmp_less(choice->ordinal, devices->size())) return {};
  return WithHint(Err(Code::kInvalidArgument, "{}: this machine has {} GPU{}", asked,
                      devices->size(), devices->size() == 1 ? "" : "s"),
                  "they are numbered from 0; launcher doctor lists them");
}

// The flag's value, else the file's, else the first of `allowed`. The file's has been checked.
Result<std::string> ChoiceOf(const Request& request, const std::string& option,
                             const std::optional<std::string>& in_file,
                             std::initializer_list<std::string_view> allowed) {
  if (!request.HasFlag(option)) return in_file.value_or(std::string(*allowed.begin()));
  const std::string value = request.flags().Get(option);
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return value;
  return Err(Code::kInvalidArgument, "--{} is \"{}\", it must be one of: {}", option, value,
             fmt::join(allowed, ", "));
}

Status ReadTimeout(const Request& request, const std::string& option, int64_t high,
                   const std::optional<int>& in_file, int& value) {
  value = in_file.value_or(value);
  if (!request.HasFlag(option)) return {};
  MUSTER_ASSIGN(const int64_t number,
                ParseNumber("--" + option, request.flags().Get(option), 100, high));
  value = static_cast<int>(number);
  return {};
}

Result<WorkerRange> PlanWorkers(const Request& request, const std::string& device) {
  if (request.HasFlag("workers")) return ParseWorkers("--workers", request.flags().Get("workers"));
  const int standard = DefaultWorkers(device);
  return request.file().TotalWorkers().value_or(WorkerRange{standard, standard});
}

Status PlanName(const Request& request, JobSpec& spec) {
  spec.name =
      request.HasFlag("name") ? request.flags().Get("name") : request.file().name.value_or("");
  if (!request.HasFlag("name") || IsJobName(spec.name)) return {};
  return Err(Code::kInvalidArgument,
             "--name is \"{}\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
             "letter or digit",
             spec.name.substr(0, 100));
}

// Whether `folder` can be made or written to: the nearest folder that there is decides.
bool CanBecomeWritable(fs::path folder) {
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  return fs::is_directory(folder, error) && ::access(folder.c_str(), W_OK) == 0;
}

// A resume must find the folder; a first run makes it, now rather than after an hour of training.
Status MakeCheckpointFolder(const JobSpec& spec, const std::string& name, bool create) {
  if (spec.resume) return {};
  std::error_code error;
  if (create) fs::create_directories(spec.checkpoint, error);
  const bool writable = create ? !error && ::access(spec.checkpoint.c_str(), W_OK) == 0
                               : CanBecomeWritable(spec.checkpoint);
  if (writable) return {};
  return Err(Code::kInvalidArgument, "{} is \"{}\", where nothing can be written: {}", name,
             spec.checkpoint.string(), error ? error.message() : "Permission denied");
}

// A path of the command line counts from the current folder, one of the file from that of the file, and in a container both count
// from the folder where the program starts.
fs::path CheckpointFolder(const Request& request, const std::string& in_file, PlanFor purpose) {
  const bool flag = request.HasFlag("checkpoint");
  const fs::path path = flag ? request.flags().Get("checkpoint") : in_file;
  if (purpose == PlanFor::kCluster) {
    return (fs::path(kubernetes::kWorkFolder) / path).lexically_normal();
  }
  std::error_code error;
  return flag ? fs::absolute(path, error).lexically_normal() : request.Resolve(path);
}

Status PlanCheckpoints(const Request& request, PlanFor purpose, RunPlan& plan) {
  JobSpec& spec = plan.spec;
  const CheckpointRequest in_file = request.file().checkpoint.value_or(CheckpointRequest{});
  spec.resume = request.HasFlag("resume") || in_file.resume.value_or(false);
  if (!request.HasFlag("checkpoint") && in_file.dir.empty()) {
    const char* needs = request.HasFlag("resume")             ? "--resume"
                        : request.HasFlag("checkpoint-every") ? "--checkpoint-every"
                                                              : nullptr;
    if (needs == nullptr) return {};
    return WithHint(Err(Code::kInvalidArgument, "{} needs to know where checkpoints are", needs),
                    "add --checkpoint DIR");
  }
  spec.checkpoint_every = static_cast<uint64_t>(
      in_file.every_steps.value_or(static_cast<int64_t>(spec.checkpoint_every)));
  if (request.HasFlag("checkpoint-every")) {
    MUSTER_ASSIGN(
        const int64_t every,
        ParseNumber("--checkpoint-every", request.flags().Get("checkpoint-every"), 1, kMostSteps));
    spec.checkpoint_every = static_cast<uint64_t>(every);
  }
  if (request.HasFlag("checkpoint") && request.flags().Get("checkpoint").empty()) {
    return Err(Code::kInvalidArgument, "--checkpoint is \"\", it must be a folder");
  }
  spec.checkpoint = CheckpointFolder(request, in_file.dir, purpose);
  if (purpose == PlanFor::kCluster) return {};
  const std::string name = request.NameOf("checkpoint", "checkpoint.dir");
  std::error_code error;
  if (fs::exists(spec.checkpoint, error) && !fs::is_directory(spec.checkpoint, error)) {
    return Err(Code::kInvalidArgument, "{} is \"{}\", which is a file, not a folder", name,
               spec.checkpoint.string());
  }
  // Without --resume a run starts at step 0; an older run's checkpoints would be taken for its own later.
  const auto old = ListCheckpoints(spec.checkpoint);
  if (!spec.resume && !old.empty()) {
    return WithHint(
        Err(Code::kInvalidArgument, "{} {} holds checkpoints up to step {} of an earlier run", name,
            spec.checkpoint.string(), old.front().step),
        "add --resume to go on from there, or name another folder");
  }
  if (!old.empty()) plan.newest_checkpoint = old.front().step;
  return MakeCheckpointFolder(spec, name, purpose == PlanFor::kRun);
}

// Whether the program is the one after `--`, else it is that of the file.
bool IsTyped(const Request& request) {
  return request.flags().has_program || !request.file().program;
}

Result<std::vector<std::string>> ProgramWords(const Request& request) {
  if (!IsTyped(request)) {
    std::vector<std::string> words = request.file().program->args;
    words.insert(words.begin(), request.file().program->path);
    return words;
  }
  if (!request.flags().program.empty()) return request.flags().program;
  return WithHint(Err(Code::kInvalidArgument, "no program is given"),
                  "put it after `--`, for example: launcher run --workers 4 -- digits --steps 400");
}

Result<fs::path> FindProgramHere(const Request& request, const std::string& word) {
  const char* path = std::getenv("PATH");
  const std::string search_path = path == nullptr ? "/usr/bin:/bin" : path;
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (IsTyped(request)) return FindProgram(word, search_path, own);
  // A path counts from the file's folder, a name is looked up as ever.
  const bool is_path = word.find('/') != word.npos;
  auto found = FindProgram(is_path ? request.Resolve(word).string() : word, search_path, own);
  if (found) return found;
  Error error_there = std::move(found.error());
  error_there.message =
      fmt::format("{}: {}", request.PlaceText("program.path"), error_there.message);
  return tl::unexpected(std::move(error_there));
}

// The image has the program, and nobody here can look into it.
Result<fs::path> ProgramOfImage(const Request& request, const std::string& word) {
  if (word.starts_with('/')) return fs::path(word).lexically_normal();
  return WithHint(
      Err(Code::kInvalidArgument,
          "{} is \"{}\", it must be an absolute path: the job has an image, and the "
          "program is in it",
          IsTyped(request) ? "the program" : request.PlaceText("program.path") + ": program.path",
          word),
      "give its path in the image, or leave image out to send a program of this machine");
}

Status PlanProgram(const Request& request, PlanFor purpose, RunPlan& plan) {
  const bool cluster = purpose == PlanFor::kCluster;
  JobSpec& spec = plan.spec;
  MUSTER_ASSIGN(spec.argv, ProgramWords(request));
  if (cluster && request.file().image) {
    MUSTER_ASSIGN(spec.executable, ProgramOfImage(request, spec.argv[0]));
  } else {
    MUSTER_ASSIGN(spec.executable, FindProgramHere(request, spec.argv[0]));
  }
  if (cluster && !request.file().image) {
    plan.sources.push_back({spec.executable, ProgramPath(spec.executable)});
    spec.executable = fs::path(kubernetes::kWorkFolder) / plan.sources.back().path;
  }
  if (cluster || !IsTyped(request)) {
    spec.cwd = cluster ? fs::path(kubernetes::kWorkFolder) : request.folder();
    return {};
  }
  std::error_code error;
  spec.cwd = fs::current_path(error);
  if (!error) return {};
  return WithHint(Err(Code::kFailedPrecondition, "the current folder is not there any more: {}",
                      error.message()),
                  "change to another folder");
}

// job.json is text; bytes that are none would not arrive as they were typed.
Status CheckText(const JobSpec& spec) {
  std::vector<std::string> words = spec.argv;
  words.insert(words.end(),
               {spec.executable.string(), spec.cwd.string(), spec.checkpoint.string()});
  for (const std::string& word : words) {
    if (FitsIntoJson(word)) continue;
    return Err(Code::kInvalidArgument,
               "the argument or path \"{}\" is not valid UTF-8, which a job cannot keep",
               nlohmann::json(word).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  return {};
}

}  // namespace

Result<bool> WantsCluster(const Invocation& invocation) {
  if (invocation.Has("platform")) return invocation.Get("platform") == "kubernetes";
  MUSTER_ASSIGN(const Request request, Request::Create(invocation));
  return request.file().platform == "kubernetes";
}

Result<RunPlan> PlanRun(const Invocation& invocation, PlanFor purpose) {
  MUSTER_ASSIGN(const Request request, Request::Create(invocation));
  RunPlan plan;
  JobSpec& spec = plan.spec;
  const JobFile& file = request.file();
  const bool cluster = purpose == PlanFor::kCluster;
  MUSTER_TRY(CheckPlatform(request, purpose));
  if (!cluster) MUSTER_TRY(CheckMachines(request, plan));
  spec.device =
      request.HasFlag("device") ? request.flags().Get("device") : file.device.value_or(spec.device);
  MUSTER_TRY(CheckDevice(request, spec, cluster));
  MUSTER_ASSIGN(const WorkerRange workers, PlanWorkers(request, spec.device));
  spec.min_workers = workers.min;
  spec.max_workers = workers.max;
  MUSTER_ASSIGN(spec.reduce, ChoiceOf(request, "reduce", file.reduce, {"exact", "float"}));
  MUSTER_ASSIGN(spec.collectives, ChoiceOf(request, "collectives", file.collectives,
                                           {"auto", "host", "nccl", "mpi"}));
  MUSTER_TRY(CheckCollectives(request, spec, cluster));
  MUSTER_TRY(ReadTimeout(request, "heartbeat-timeout-ms", 600'000, file.heartbeat_timeout_ms,
                         spec.heartbeat_timeout_ms));
  MUSTER_TRY(ReadTimeout(request, "step-timeout-ms", 86'400'000, file.step_timeout_ms,
                         spec.step_timeout_ms));
  MUSTER_TRY(ReadTimeout(request, "start-timeout-ms", 86'400'000, file.start_timeout_ms,
                         spec.start_timeout_ms));
  spec.environment = file.environment;
  MUSTER_TRY(PlanName(request, spec));
  MUSTER_TRY(PlanProgram(request, purpose, plan));
  MUSTER_ASSIGN(const std::vector<BundleSource> files, PlanFiles(request, cluster));
  plan.sources.insert(plan.sources.end(), files.begin(), files.end());
  MUSTER_TRY(PlanCheckpoints(request, purpose, plan));
  MUSTER_TRY(CheckText(spec));
  plan.values = Origins(request, spec, cluster ? "kubernetes" : "local");
  plan.file = file;
  plan.name_is_random = spec.name.empty();
  if (spec.name.empty()) spec.name = NameFor(spec.argv[0], RandomHex(2));
  spec.detached = request.HasFlag("detach");
  return plan;
}

}  // namespace muster
