#include "launcher/verbs/jobs.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/suggest.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/progress.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::chrono::seconds kListTime{2};
constexpr size_t kMostSentences = 8;  // about the platform

std::vector<std::string> Names(const std::vector<JobSpec>& jobs) {
  std::vector<std::string> names;
  for (const JobSpec& job : jobs) names.push_back(job.name);
  return names;
}

std::string KnownJobs(std::vector<std::string> names) {
  constexpr size_t kMost = 10;
  if (names.empty()) return "there are no jobs here; start one: launcher run --workers 4 -- digits";
  const bool more = names.size() > kMost;
  names.resize(std::min(names.size(), kMost));
  return fmt::format("there are: {}{}", fmt::join(names, ", "), more ? ", ..." : "");
}

double AgeSeconds(const JobSpec& job) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  return std::max(0.0, static_cast<double>(now.count() - job.created_ms) / 1e3);
}

std::string StepText(const json& status) {
  return fmt::format("{}/{}", FieldOr<uint64_t>(status, "step", 0),
                     FieldOr<uint64_t>(status, "total_steps", 0));
}

std::string StatusText(const json& status) {
  const ProgressFigures figures = FiguresOf(status);
  std::string text =
      fmt::format("{}: {}\n", FieldOr<std::string>(status, "name", ""), figures.phase);
  if (!figures.message.empty()) text += fmt::format("  {}\n", figures.message);
  text += fmt::format("  {}\n  generation {}  {} samples\n", ProgressLine(figures),
                      FieldOr<uint64_t>(status, "generation", 0), figures.samples_consumed);
  for (const std::string& sentence : PlatformSentences(status, kMostSentences)) {
    text += fmt::format("  {}\n", sentence);
  }
  std::vector<std::vector<std::string>> rows{
      {"  WORKER", "RANK", "PID", "STATE", "STEP TIME", "HOST", "DEVICE"}};
  for (const json& worker : FieldOr(status, "workers", json::array())) {
    const int rank = FieldOr(worker, "rank", -1);
    const double seconds = FieldOr(worker, "step_seconds", 0.0);
    rows.push_back(
        {"  " + FieldOr<std::string>(worker, "id", ""), rank < 0 ? "-" : fmt::format("{}", rank),
         fmt::format("{}", FieldOr<int64_t>(worker, "pid", 0)),
         FieldOr<std::string>(worker, "state", ""),
         seconds > 0 ? fmt::format("{:.2f} ms", seconds * 1e3) : "-",
         FieldOr<std::string>(worker, "host", ""), FieldOr<std::string>(worker, "device", "")});
  }
  return text + (rows.size() > 1 ? Table(rows) : "");
}

// Of a job on a cluster that nobody follows, only the cluster knows how it is; where that does not say so soon, the last that was heard.
Result<json> StatusForList(const JobStore& store, const std::string& name) {
  if (store.IsOnCluster(name) && store.IsRunning(name) && !store.IsHeld(name)) {
    const auto job = OpenClusterJob(store, name);
    if (job) (void)AskStatus(store, *job, kListTime);
  }
  return store.ReadStatus(name);
}

}  // namespace

Result<JobStore> OpenStore() {
  MUSTER_ASSIGN(const std::filesystem::path home, MusterHome());
  return JobStore(home);
}

Result<std::string> FindJob(const JobStore& store, const std::vector<std::string>& operands,
                            bool or_newest) {
  if (!operands.empty()) {
    const std::string& name = operands.front();
    // Whatever is not a name is no job, and above all no path.
    if (IsJobName(name) && store.Folder(name).ReadSpec()) return name;
    const auto names = Names(store.List());
    const auto near = Nearest(name, names);
    return WithHint(Err(Code::kNotFound, "there is no job \"{}\"", name.substr(0, 100)),
                    near ? fmt::format("did you mean {}?", *near) : KnownJobs(names));
  }
  const std::vector<JobSpec> jobs = store.List();
  std::vector<std::string> running;
  for (const JobSpec& job : jobs) {
    if (store.IsRunning(job.name)) running.push_back(job.name);
  }
  if (running.size() == 1) return running.front();
  if (running.empty() && or_newest && !jobs.empty()) return jobs.front().name;
  if (running.empty()) {
    return WithHint(Err(Code::kNotFound, "no job is running"), KnownJobs(Names(jobs)));
  }
  return WithHint(
      Err(Code::kInvalidArgument, "{} jobs are running, name the one you mean", running.size()),
      KnownJobs(running));
}

Result<std::set<std::string>> WorkersOfRanks(const std::vector<int>& ranks, const json& status,
                                             const std::string& job, const std::string& example) {
  std::set<std::string> workers;
  for (const int rank : ranks) {
    std::string found;
    for (const json& worker : FieldOr(status, "workers", json::array())) {
      if (FieldOr(worker, "rank", -1) == rank) found = FieldOr<std::string>(worker, "id", "");
    }
    if (found.empty()) {
      return WithHint(Err(Code::kInvalidArgument,
                          "--ranks names {}, no worker of {} has that rank now", rank, job),
                      "choose by worker instead: --workers " + example);
    }
    workers.insert(found);
  }
  return workers;
}

Result<int> ListJobs(const Invocation& invocation) {
  MUSTER_ASSIGN(const bool cluster, IsForKubernetes(invocation));
  if (cluster) return ListClusterRuns(invocation);
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  ordered_json list = ordered_json::array();
  std::vector<std::vector<std::string>> rows{
      {"NAME", "PHASE", "STEP", "WORKERS", "AGE", "PROGRAM"}};
  for (const JobSpec& job : store.List()) {
    const auto status = StatusForList(store, job.name);
    if (!status) continue;
    const auto phase = FieldOr<std::string>(*status, "phase", "");
    const int world_size = FieldOr(*status, "world_size", 0);
    list.push_back({{"name", job.name},
                    {"platform", store.IsOnCluster(job.name) ? "kubernetes" : "local"},
                    {"phase", phase},
                    {"step", FieldOr<uint64_t>(*status, "step", 0)},
                    {"total_steps", FieldOr<uint64_t>(*status, "total_steps", 0)},
                    {"world_size", world_size},
                    {"age_seconds", AgeSeconds(job)},
                    {"detached", job.detached},
                    {"program", job.argv}});
    rows.push_back({job.name, phase, StepText(*status), fmt::format("{}", world_size),
                    DurationText(AgeSeconds(job)), ShellQuote(job.argv).substr(0, 60)});
  }
  if (invocation.json()) {
    Print(list.dump() + "\n");
  } else {
    Print(list.empty() ? KnownJobs({}) + "\n" : Table(rows));
  }
  return 0;
}

Result<int> ShowStatus(const Invocation& invocation) {
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, invocation.operands, true));
  const Result<json> status = ExplainedStatus(store, job);
  if (!status && job.cluster) return ReportClusterFailure("status", status.error());
  if (!status) return tl::unexpected(status.error());
  Print(invocation.json() ? status->dump() + "\n" : StatusText(*status));
  return 0;
}

}  // namespace muster
