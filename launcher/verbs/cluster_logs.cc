// `launcher logs` for jobs on a cluster: the logs of the workers' pods, by the API server.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/platform/kubernetes/pod_logs.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using kubernetes::LoggingPod;
using kubernetes::LogLine;
using nlohmann::json;

constexpr std::chrono::seconds kAnswerTime{15};
constexpr std::chrono::milliseconds kWaitForLines{100};
constexpr std::chrono::seconds kLookEvery{2};  // for new pods, and for the end
constexpr std::chrono::seconds kLastLines{5};  // after the end of the job
constexpr size_t kMostFollowed = 256;          // each is a stream through the API server

// "workers-7-1" is the second worker of pod "workers-7".
bool IsOf(const std::string& worker, const std::string& pod) {
  return worker == pod || worker.starts_with(pod + "-");
}

// The workers that --workers and --ranks name; empty: all.
Result<std::set<std::string>> Chosen(const Invocation& invocation, const ClusterJob& job) {
  std::set<std::string> chosen;
  for (const std::string& worker : SplitCommas(invocation.Get("workers"))) chosen.insert(worker);
  if (!invocation.Has("ranks")) return chosen;
  MUSTER_ASSIGN(const std::vector<int> ranks, ParseNumberList("--ranks", invocation.Get("ranks")));
  MUSTER_ASSIGN(const json status, job.run->Status(k8s::Within(kAnswerTime)));
  MUSTER_ASSIGN(std::set<std::string> ranked, WorkersOfRanks(ranks, status, job.name, "ID,ID"));
  chosen.merge(ranked);
  return chosen;
}

// The pods of the chosen workers; of all workers, but not of the coordinator, if none is chosen.
Result<std::vector<LoggingPod>> ChosenPods(const ClusterJob& job,
                                           const std::set<std::string>& chosen) {
  MUSTER_ASSIGN(std::vector<LoggingPod> pods,
                kubernetes::PodsWithLogs(*job.run, k8s::Within(kAnswerTime)));
  std::erase_if(pods, [&](const LoggingPod& pod) {
    if (chosen.empty()) return pod.id == "coordinator";
    return std::none_of(chosen.begin(), chosen.end(),
                        [&](const std::string& worker) { return IsOf(worker, pod.id); });
  });
  return pods;
}

Status CheckChosen(const ClusterJob& job, const std::set<std::string>& chosen,
                   const std::vector<LoggingPod>& pods) {
  for (const std::string& worker : chosen) {
    const bool there = std::any_of(pods.begin(), pods.end(),
                                   [&](const LoggingPod& pod) { return IsOf(worker, pod.id); });
    if (there) continue;
    return WithHint(
        Err(Code::kInvalidArgument,
            "--workers names \"{}\", {} has no worker of that id with a pod now", worker, job.name),
        "launcher status lists them; \"coordinator\" is the coordinator's log");
  }
  return {};
}

// Workers that share a pod share its log, and it has lines that are nobody's.
bool IsWanted(const std::set<std::string>& chosen, const LogLine& line) {
  return chosen.empty() ||
         std::any_of(chosen.begin(), chosen.end(), [&](const std::string& worker) {
           return IsOf(worker, line.id) || IsOf(line.id, worker);
         });
}

bool PrintLine(const Invocation& invocation, const LogLine& line) {
  if (!invocation.json()) return Print(fmt::format("{} | {}\n", line.id, line.text));
  const nlohmann::ordered_json object = {{"worker", line.id}, {"line", line.text}};
  return Print(object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
}

bool ReaderIsGone() {
  pollfd reader = {STDOUT_FILENO, 0, 0};
  return ::poll(&reader, 1, 0) > 0;
}

int Follow(const Invocation& invocation, const ClusterJob& job, const std::set<std::string>& chosen,
           const std::vector<LoggingPod>& pods) {
  kubernetes::LogFollower logs(*job.run);
  logs.Add(pods);
  TimePoint look_at = MonotonicNow() + kLookEvery;
  std::optional<TimePoint> end;
  while (true) {
    for (const LogLine& line : logs.Take(MonotonicNow() + kWaitForLines)) {
      if (IsWanted(chosen, line) && !PrintLine(invocation, line)) return 0;
    }
    const TimePoint now = MonotonicNow();
    if (ReaderIsGone() || (end && (now >= *end || logs.AllEnded()))) return 0;
    if (now < look_at) continue;
    look_at = now + kLookEvery;
    const auto look = job.run->Look(k8s::Within(kAnswerTime));
    if (look && (look->gone || look->finished) && !end) end = now + kLastLines;
    if (const auto more = ChosenPods(job, chosen); more && more->size() <= kMostFollowed) {
      logs.Add(*more);
    }
  }
}

}  // namespace

Result<int> ShowClusterLogs(const Invocation& invocation, const ClusterJob& job) {
  const auto chosen = Chosen(invocation, job);
  if (!chosen) return ReportClusterFailure("logs", chosen.error());
  const auto pods = ChosenPods(job, *chosen);
  if (!pods) return ReportClusterFailure("logs", pods.error());
  MUSTER_TRY(CheckChosen(job, *chosen, *pods));
  if (invocation.Has("follow")) {
    if (pods->size() > kMostFollowed) {
      return WithHint(Err(Code::kInvalidArgument, "{} has {} pods, at most {} can be followed",
                          job.name, pods->size(), kMostFollowed),
                      "choose some: --ranks 0,1 or --workers ID,ID");
    }
    return Follow(invocation, job, *chosen, *pods);
  }
  std::vector<std::string> failed;
  for (const LogLine& line : kubernetes::ReadLogs(*job.run, *pods, &failed)) {
    if (IsWanted(*chosen, line) && !PrintLine(invocation, line)) return 0;
  }
  for (const std::string& sentence : failed) PrintError(sentence + "\n");
  return failed.empty() ? 0 : ClusterExitCode(Code::kUnavailable);
}

}  // namespace muster
