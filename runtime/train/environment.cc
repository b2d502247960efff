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

}  // namespace

Result<WorkerEnvironment> ReadWorkerEnvironment() {
  WorkerEnvironment environment;
  const std::string reduce = Variable("MUSTER_REDUCE");
  if (!reduce.empty() && reduce != "exact" && reduce != "float") {
    return Err(Code::kInvalidArgument,
               "environment variable MUSTER_REDUCE must be exact or float, not '{}'", reduce);
  }
  environment.reduce = reduce == "float" ? Reduce::kFloat : Reduce::kExact;
  const std::string join = Variable("MUSTER_JOIN");
  if (!join.empty() && join != "auto" && join != "flat" && join != "plain") {
    return Err(Code::kInvalidArgument,
               "environment variable MUSTER_JOIN must be auto, flat or plain, not '{}'", join);
  }
  environment.join = join == "flat"    ? JoinMode::kFlat
                     : join == "plain" ? JoinMode::kPlain
                                       : JoinMode::kAuto;
  if (!Variable("MUSTER_NICE").empty()) {
    MUSTER_ASSIGN(environment.nice, Number<int>("MUSTER_NICE", 0));
  }
  environment.checkpoint = Variable("MUSTER_CHECKPOINT");
  MUSTER_ASSIGN(environment.checkpoint_every, Number<uint64_t>("MUSTER_CHECKPOINT_EVERY", 0));
  MUSTER_ASSIGN(const uint64_t resume, Number<uint64_t>("MUSTER_RESUME", 0));
  environment.resume = resume != 0;
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
