#include "launcher/verbs/cluster_job.h"

#include <map>
#include <utility>

#include "launcher/job/fields.h"
#include "launcher/job/outcome.h"
#include "launcher/platform/kubernetes/follow_core.h"
#include "launcher/platform/kubernetes/follow_run.h"
#include "launcher/platform/kubernetes/keep.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using kubernetes::ListedRun;
using kubernetes::RunLook;
using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{15};
constexpr std::chrono::seconds kStatusTime{10};
constexpr std::chrono::seconds kLastMoments{3};
constexpr std::chrono::seconds kExplainTime{5};
constexpr size_t kMostExplained = 4;  // reasons; each costs two requests

std::string RunNames(const std::vector<ListedRun>& runs) {
  constexpr size_t kMost = 10;
  std::vector<std::string> names;
  for (const ListedRun& run : runs) {
    if (names.size() < kMost) names.push_back(kubernetes::RunName(run.spec));
  }
  if (names.empty()) return "there are no runs in it";
  return fmt::format("its runs: {}{}", fmt::join(names, ", "), runs.size() > kMost ? ", ..." : "");
}

// The one run that `operands` mean.
Result<ListedRun> ChooseRun(std::vector<ListedRun> runs, const std::vector<std::string>& operands,
                            const std::string& space) {
  std::vector<ListedRun> fitting;
  for (const ListedRun& run : runs) {
    const bool meant = operands.empty() ? !run.finished.has_value()
                                        : operands[0] == run.spec.name ||
                                              operands[0] == kubernetes::RunName(run.spec);
    if (meant) fitting.push_back(run);
  }
  if (fitting.size() == 1) return fitting.front();
  if (fitting.empty()) {
    const std::string which = operands.empty() ? "running job" : "job \"" + operands[0] + "\"";
    return WithHint(Err(Code::kNotFound, "namespace {} has no {}", space, which), RunNames(runs));
  }
  return WithHint(Err(Code::kInvalidArgument, "{} runs fit in namespace {}, name the one you mean",
                      fitting.size(), space),
                  RunNames(fitting));
}

// The job's folder here, if it is one of that namespace.
std::optional<JobFolder> FolderOf(const JobStore& store, const ListedRun& run) {
  const JobFolder folder = store.Folder(run.spec.name);
  const auto place = folder.ReadCluster();
  const bool same = place && place->uid == run.uid;
  return same ? std::optional(folder) : std::nullopt;
}

Result<FoundJob> FindInNamespace(const Invocation& invocation, const JobStore& store,
                                 const std::vector<std::string>& operands) {
  MUSTER_ASSIGN(ClusterTarget target, ChooseTarget(invocation));
  const std::string space = target.place.namespace_name;
  MUSTER_ASSIGN(auto api, k8s::ApiClient::Create(std::move(target.config)));
  MUSTER_ASSIGN(std::vector<ListedRun> runs,
                kubernetes::ListRuns(*api, space, "", k8s::Within(kAnswerTime)));
  MUSTER_ASSIGN(ListedRun run, ChooseRun(std::move(runs), operands, space));
  FoundJob found{run.spec.name, std::nullopt};
  ClusterJob job{run.spec.name, nullptr, FolderOf(store, run)};
  MUSTER_ASSIGN(std::string secret,
                kubernetes::ReadRunSecret(*api, space, run.spec, k8s::Within(kAnswerTime)));
  job.run = std::make_unique<kubernetes::RemoteRun>(std::move(api), space, run.spec, run.uid,
                                                    std::move(secret));
  found.cluster = std::move(job);
  return found;
}

bool HasEnd(const JobFolder& folder) {
  std::error_code error;
  return std::filesystem::exists(folder.result(), error);
}

// What cannot be read stays as it is.
void ExplainWaiting(const ClusterJob& job, json& status) {
  const json::json_pointer place("/platform_status/waiting");
  if (!status.contains(place) || !status[place].is_array()) return;
  // Of each pool, by what the coordinator says.
  std::map<std::pair<std::string, std::string>, std::string> better;
  for (json& pod : status[place]) {
    const auto name = FieldOr<std::string>(pod, "pod", "");
    const auto why = FieldOr<std::string>(pod, "why", "");
    const std::pair kind(name.substr(0, name.rfind('-')), why);
    if (!better.contains(kind)) {
      if (better.size() == kMostExplained) continue;
      const auto told = job.run->WhyPodWaits(name, k8s::OnceWithin(kExplainTime));
      better[kind] = told && !told->empty() ? *told : why;
    }
    if (pod.is_object()) pod["why"] = better[kind];
  }
}

}  // namespace

Result<json> AfterDeletion(const JobStore& store, const ClusterJob& job) {
  if (!job.folder) {
    return Err(Code::kNotFound, "the run {} is not there any more", job.run->name());
  }
  // Whoever follows it is about to write the end.
  if (const auto lock = store.Hold(job.name); lock && !HasEnd(*job.folder)) {
    WriteSubstituteResult(*job.folder, job.run->spec(), "failed", 1,
                          kubernetes::DeletionText(false));
  }
  return store.ReadStatus(job.name);
}

Result<ClusterJob> OpenClusterJob(const JobStore& store, const std::string& name) {
  const JobFolder folder = store.Folder(name);
  MUSTER_ASSIGN(const ClusterPlace place, folder.ReadCluster());
  MUSTER_ASSIGN(JobSpec spec, folder.ReadSpec());
  MUSTER_ASSIGN(std::string secret, folder.ReadSecret());
  MUSTER_ASSIGN(k8s::ClientConfig config, ConfigOf(place));
  MUSTER_ASSIGN(auto api, k8s::ApiClient::Create(std::move(config)));
  return ClusterJob{
      name,
      std::make_unique<kubernetes::RemoteRun>(std::move(api), place.namespace_name, std::move(spec),
                                              place.uid, std::move(secret)),
      folder};
}

Result<FoundJob> FindAnyJob(const Invocation& invocation, const JobStore& store,
                            const std::vector<std::string>& operands, bool or_newest) {
  if (NamesCluster(invocation)) return FindInNamespace(invocation, store, operands);
  MUSTER_ASSIGN(const std::string name, FindJob(store, operands, or_newest));
  FoundJob found{name, std::nullopt};
  if (!store.IsOnCluster(name) || !store.IsRunning(name)) return found;
  MUSTER_ASSIGN(ClusterJob job, OpenClusterJob(store, name));
  found.cluster = std::move(job);
  return found;
}

json EndOf(const JobSpec& spec, const RunLook& look) {
  const json finished = json::parse(look.finished.value_or(""), nullptr, false);
  json status = json::parse(look.status, nullptr, false);
  if (!status.is_object()) status = PendingStatus(spec, "kubernetes");
  return FinalStatus(std::move(status), FieldOr<std::string>(finished, "phase", "failed"),
                     FieldOr<std::string>(finished, "message", ""));
}

bool FetchEnd(const JobStore& store, const ClusterJob& job, const RunLook& look) {
  if (!look.finished || !job.folder) return false;
  const auto lock = store.Hold(job.name);
  if (!lock) return false;
  // Right after the end they need some moments, and who looks now may not look again.
  kubernetes::AwaitWorkers(*job.run, {}, kLastMoments);
  const auto workers =
      kubernetes::WorkersLeft(job.run->api(), job.run->namespace_name(), job.run->spec());
  if (!workers || !workers->empty()) return false;
  kubernetes::EventFile(*job.folder).Add(look.events);
  kubernetes::KeepEnd(*job.folder, job.run->spec(), *look.finished, look.status);
  const Status removed = kubernetes::RemoveRun(job.run->api(), job.run->namespace_name(),
                                               job.run->spec(), job.run->uid());
  if (!removed) PrintError(fmt::format("{}\n", removed.error().ToString()));
  return true;
}

Result<json> AskStatus(const JobStore& store, const ClusterJob& job, Duration time) {
  const auto answer = job.run->Status(k8s::OnceWithin(time));
  // A final one is kept with all that belongs to the end, once that is there.
  if (answer && !IsFinalPhase(FieldOr<std::string>(*answer, "phase", ""))) {
    if (job.folder && !store.IsHeld(job.name)) {
      kubernetes::KeepStatus(*job.folder,
                             answer->dump(-1, ' ', false, json::error_handler_t::replace));
    }
    return *answer;
  }
  MUSTER_ASSIGN(const RunLook look, job.run->Look(k8s::Within(time)));
  if (look.finished) {
    if (FetchEnd(store, job, look)) return store.ReadStatus(job.name);
    return EndOf(job.run->spec(), look);
  }
  if (answer) return *answer;
  if (look.gone) return AfterDeletion(store, job);
  json status = json::parse(look.status, nullptr, false);
  if (!status.is_object()) status = PendingStatus(job.run->spec(), "kubernetes");
  status["message"] = kubernetes::WhyCoordinatorWaits(look.scene);
  return status;
}

Result<json> ExplainedStatus(const JobStore& store, const FoundJob& job) {
  if (!job.cluster) return store.ReadStatus(job.name);
  MUSTER_ASSIGN(json status, AskStatus(store, *job.cluster, kStatusTime));
  ExplainWaiting(*job.cluster, status);
  return status;
}

}  // namespace muster
