#include "runtime/train/environment.h"

#include <charconv>
#include <cstdlib>

#include "runtime/base/files.h"

namespace muster {

namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

template <typename T>
Result<T> Number(const char* name, T otherwise) {
  const std::string text = Variable(name);
  if (text.empty()) return otherwise;
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Err(Code::kInvalidArgument, "environment variable {} must be a whole number, not '{}'",
               name, text);
  }
  return value;
}

// Off if it is 0 or not set.
Result<bool> Switch(const char* name) {
  MUSTER_ASSIGN(const uint64_t value, Number<uint64_t>(name, 0));
  return value != 0;
}

template <typename T>
struct Word {
  std::string_view text;
  T value;
};

// The value of the word that a variable holds; of the first one if it is empty or not set.
template <typename T>
Result<T> Choice(const char* name, std::initializer_list<Word<T>> words) {
  const std::string text = Variable(name);
  std::string list;
  for (const Word<T>& word : words) {
    if (text.empty() || text == word.text) return word.value;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", word.text);
  }
  return Err(Code::kInvalidArgument, "environment variable {} must be one of {}, not '{}'", name,
             list, text);
}

Status ReadDevice(WorkerEnvironment& environment) {
  if (const std::string device = Variable("MUSTER_DEVICE"); !device.empty()) {
    const auto choice = DeviceChoice::Parse(device);
    if (!choice) {
      return Err(Code::kInvalidArgument, "environment variable MUSTER_DEVICE must be {}, not '{}'",
                 kDeviceChoices, device);
    }
    environment.device = *choice;
  }
  MUSTER_ASSIGN(environment.gpu_check,
                Choice<GpuCheck>("MUSTER_GPU_CHECK", {{"full", GpuCheck::kFull},
                                                      {"brief", GpuCheck::kBrief},
                                                      {"off", GpuCheck::kOff}}));
  MUSTER_ASSIGN(environment.collectives,
                Choice<Collectives>("MUSTER_COLLECTIVES", {{"auto", Collectives::kAuto},
                                                           {"host", Collectives::kHost},
                                                           {"nccl", Collectives::kNccl}}));
  MUSTER_ASSIGN(environment.gpu_expected, Switch("MUSTER_GPU_EXPECTED"));
  MUSTER_ASSIGN(environment.nccl_encrypt, Switch("MUSTER_NCCL_ENCRYPT"));
  return {};
}

}  // namespace

Result<WorkerEnvironment> ReadWorkerEnvironment() {
  WorkerEnvironment environment;
  MUSTER_ASSIGN(environment.reduce, Choice<Reduce>("MUSTER_REDUCE", {{"exact", Reduce::kExact},
                                                                     {"float", Reduce::kFloat}}));
  MUSTER_ASSIGN(environment.join, Choice<JoinMode>("MUSTER_JOIN", {{"auto", JoinMode::kAuto},
                                                                   {"flat", JoinMode::kFlat},
                                                                   {"plain", JoinMode::kPlain}}));
  MUSTER_TRY(ReadDevice(environment));
  if (!Variable("MUSTER_NICE").empty()) {
    MUSTER_ASSIGN(environment.nice, Number<int>("MUSTER_NICE", 0));
  }
  environment.checkpoint = Variable("MUSTER_CHECKPOINT");
  MUSTER_ASSIGN(environment.checkpoint_every, Number<uint64_t>("MUSTER_CHECKPOINT_EVERY", 0));
  MUSTER_ASSIGN(environment.resume, Switch("MUSTER_RESUME"));
  MUSTER_ASSIGN(const uint64_t step_timeout_ms, Number<uint64_t>("MUSTER_STEP_TIMEOUT_MS", 60'000));
  environment.step_timeout = std::chrono::milliseconds(step_timeout_ms);
  MUSTER_ASSIGN(const uint64_t heartbeat_timeout_ms,
                Number<uint64_t>("MUSTER_HEARTBEAT_TIMEOUT_MS", 3'000));
  environment.heartbeat_timeout = std::chrono::milliseconds(heartbeat_timeout_ms);
  environment.job_dir = Variable("MUSTER_JOB_DIR");
  if (environment.alone()) return environment;

  environment.job = Variable("MUSTER_JOB");
  environment.worker = Variable("MUSTER_WORKER_ID");
  if (const std::string listen = Variable("MUSTER_LISTEN"); !listen.empty()) {
    environment.listen_address = listen;
  }
  MUSTER_ASSIGN(environment.incarnation, Number<uint64_t>("MUSTER_INCARNATION", 1));
  MUSTER_ASSIGN(environment.secret, ReadFile(environment.job_dir / "secret", 4096));
  while (!environment.secret.empty() &&
         std::isspace(static_cast<unsigned char>(environment.secret.back()))) {
    environment.secret.pop_back();
  }
  if (environment.job.empty() || environment.worker.empty()) {
    return WithHint(
        Err(Code::kInvalidArgument,
            "MUSTER_JOB_DIR is set, but MUSTER_JOB or MUSTER_WORKER_ID is not"),
        "unset MUSTER_JOB_DIR to train alone, or start the program with `launcher run`");
  }
  return environment;
}

}  // namespace muster
