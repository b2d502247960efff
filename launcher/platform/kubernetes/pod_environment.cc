#include "launcher/platform/kubernetes/pod_environment.h"

#include <charconv>
#include <cstdlib>

#include "launcher/job/job.h"
#include "launcher/platform/kubernetes/objects.h"
#include "runtime/base/files.h"

namespace muster::kubernetes {
namespace {

constexpr size_t kMaxSecretBytes = 4096;

Result<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value != nullptr && *value != '\0') return std::string(value);
  return WithHint(Err(Code::kFailedPrecondition, "the environment variable {} is not set", name),
                  "this runs in the pods of a job only; start one with `launcher run --platform "
                  "kubernetes`");
}

Result<int> DeviceCount() {
  MUSTER_ASSIGN(const std::string text, Variable("MUSTER_DEVICES"));
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error == std::errc() && end == text.data() + text.size() && count >= 1 &&
      count <= kMaxWorkers) {
    return count;
  }
  return Err(Code::kFailedPrecondition, "MUSTER_DEVICES is \"{}\", no number from 1 to {}", text,
             kMaxWorkers);
}

}  // namespace

Result<PodEnvironment> ReadPodEnvironment(bool worker) {
  PodEnvironment environment;
  MUSTER_ASSIGN(environment.run, Variable("MUSTER_RUN"));
  MUSTER_ASSIGN(environment.job, Variable("MUSTER_JOB"));
  MUSTER_ASSIGN(environment.name_space, Variable("MUSTER_NAMESPACE"));
  MUSTER_ASSIGN(environment.pod, Variable("MUSTER_POD_NAME"));
  MUSTER_ASSIGN(environment.pod_ip, Variable("MUSTER_POD_IP"));
  MUSTER_ASSIGN(environment.home, Variable("MUSTER_HOME"));
  MUSTER_ASSIGN(environment.secret,
                ReadFile(std::filesystem::path(kSecretFolder) / kSecretKey, kMaxSecretBytes));
  while (environment.secret.ends_with('\n')) environment.secret.pop_back();
  if (!worker) return environment;
  MUSTER_ASSIGN(environment.coordinator, Variable("MUSTER_COORDINATOR"));
  MUSTER_ASSIGN(environment.pool, Variable("MUSTER_POOL"));
  MUSTER_ASSIGN(environment.devices, DeviceCount());
  return environment;
}

}  // namespace muster::kubernetes
