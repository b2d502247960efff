// What can be said without a job: `launcher doctor` and `launcher version`.
#include <sched.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "launcher/process/tree.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/doctor.h"
#include "launcher/verbs/gpus.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/text.h"
#include "runtime/base/files.h"
#include "runtime/base/unique_fd.h"

namespace muster {
namespace {

Finding CheckMemory() {
  UniqueFd fd(::memfd_create("muster-doctor", MFD_CLOEXEC));
  const bool ok = fd && ::ftruncate(fd.get(), 1 << 20) == 0;
  return {"shared memory", ok,
          ok ? "memfd works" : "memfd_create fails; workers fall back to sockets"};
}

Finding CheckCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  ::sched_getaffinity(0, sizeof cores, &cores);
  return {"cores", CPU_COUNT(&cores) > 0, fmt::format("{} for this process", CPU_COUNT(&cores))};
}

Finding CheckProcesses() {
  const bool ok = IsAlive(::getpid());
  return {"processes", ok,
          ok ? "/proc can be read" : "/proc cannot be read: left-over processes are not found"};
}

Finding CheckDisk() {
  const auto home = MusterHome();
  struct statvfs facts = {};
  if (!home || ::statvfs(home->c_str(), &facts) != 0) return {"disk", false, "cannot be looked at"};
  const double free_mib =
      static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize) / (1 << 20);
  return {"disk", free_mib >= 100, fmt::format("{:.0f} MiB free for jobs", free_mib)};
}

}  // namespace

Finding CheckHome() {
  const auto home = MusterHome();
  if (!home) return {"job folder", false, home.error().ToString()};
  std::error_code error;
  std::filesystem::create_directories(*home, error);
  const std::filesystem::path probe = *home / ".doctor";
  const Status written = WriteFileAtomically(probe, "ok\n");
  std::filesystem::remove(probe, error);
  return {"job folder", written.has_value(),
          written ? home->string()
                  : written.error().message + "; set MUSTER_HOME to a folder you may write to"};
}

int ReportFindings(const Invocation& invocation, const std::vector<Finding>& findings,
                   int exit_code) {
  bool all_ok = true;
  auto checks = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Finding& finding : findings) {
    all_ok &= finding.ok;
    checks.push_back({{"check", finding.what}, {"ok", finding.ok}, {"detail", finding.detail}});
    rows.push_back({finding.ok ? "ok" : "BAD", finding.what, finding.detail});
  }
  const nlohmann::ordered_json report = {{"ok", all_ok}, {"checks", std::move(checks)}};
  Print(invocation.json() ? report.dump() + "\n" : Table(rows));
  return all_ok ? 0 : exit_code;
}

Result<int> RunDoctor(const Invocation& invocation) {
  MUSTER_ASSIGN(const bool cluster, IsForKubernetes(invocation));
  if (cluster) return RunClusterDoctor(invocation);
  std::vector<Finding> findings = {CheckHome(), CheckDisk(), CheckMemory(), CheckCores(),
                                   CheckProcesses()};
  for (Finding& finding : CheckGpus()) findings.push_back(std::move(finding));
  return ReportFindings(invocation, findings);
}

Result<int> ShowVersion(const Invocation& invocation) {
  const nlohmann::json version = {{"version", MUSTER_VERSION}};
  Print(invocation.json() ? version.dump() + "\n" : fmt::format("launcher {}\n", MUSTER_VERSION));
  return 0;
}

}  // namespace muster
