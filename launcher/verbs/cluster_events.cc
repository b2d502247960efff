// `launcher events` and `launcher ps` for jobs on a cluster.
#include <poll.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/job/fields.h"
#include "launcher/platform/kubernetes/event_listener.h"
#include "launcher/platform/kubernetes/follow_run.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/progress.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using kubernetes::FollowAction;
using kubernetes::FollowCore;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::chrono::seconds kAnswerTime{15};
constexpr size_t kMostEventBytes = size_t{64} << 20;

// Prints events as they come to the core; the rest of what it decides is not for a verb that only looks.
class EventPrinter {
 public:
  explicit EventPrinter(bool as_json) : as_json_(as_json) {}

  // False once there is nothing more to come, or nobody reads.
  bool Show(const FollowCore::Actions& actions) {
    for (const FollowAction& action : actions) {
      if (!Show(action)) return false;
    }
    return true;
  }

  // What the run has left, as far as it came by here.
  const kubernetes::RunLook& seen() const { return seen_; }

 private:
  bool Show(const FollowAction& action) {
    switch (action.kind) {
      case FollowAction::Kind::kNote:
        PrintError(action.text + "\n");
        return true;
      case FollowAction::Kind::kEvent:
        if (action.text.starts_with("{\"event\":\"progress\"")) return true;
        if (seen_.events.size() < kMostEventBytes) seen_.events += action.text + "\n";
        return Print(EventLine(action.text, as_json_));
      case FollowAction::Kind::kEnd:
        seen_.finished = action.text;
        return false;
      default:
        PrintError(action.text + "\n");
        return false;
    }
  }

  const bool as_json_;
  kubernetes::RunLook seen_;
};

// All that there is now, in one answer.
Result<std::string> ReadEvents(const kubernetes::RemoteRun& run) {
  MUSTER_ASSIGN(const auto stream, run.Events(0, false, k8s::Within(kAnswerTime)));
  std::string text;
  while (text.size() < kMostEventBytes) {
    MUSTER_ASSIGN(const std::string bytes, stream->Read(MonotonicNow() + kAnswerTime));
    if (bytes.empty()) break;
    text += bytes;
  }
  return text;
}

void PrintAll(const std::string& text, bool as_json) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const bool event = !line.empty() && !json::parse(line, nullptr, false).contains("event");
    if (event && !Print(EventLine(line, as_json))) return;
    begin = end + 1;
  }
}

// The stream has told the end; a failure may be that of a run that was deleted.
void KeepEndSeen(const JobStore& store, const ClusterJob& job, const kubernetes::RunLook& end) {
  if (!end.finished || !job.folder) return;
  kubernetes::AwaitWorkers(*job.run);
  const auto look = job.run->Look(k8s::Within(kAnswerTime));
  if (look && look->gone) {
    (void)AfterDeletion(store, job);
  } else {
    FetchEnd(store, job, end);
  }
}

Result<int> FollowEvents(const Invocation& invocation, const JobStore& store,
                         const ClusterJob& job) {
  auto wake = kubernetes::Inbox::Create();
  if (!wake) return tl::unexpected(wake.error());
  kubernetes::Inbox& inbox = **wake;
  FollowCore core(0);
  std::string status;  // of the listening thread, until that has ended
  EventPrinter printer(invocation.json());
  std::jthread listening([&](const std::stop_token& stop) {
    const auto keep = [&status](const std::string& text) { status = text; };
    kubernetes::EventListener(*job.run, 0, inbox, keep).Listen(stop);
  });
  for (bool more = true; more;) {
    // A reader that has gone is seen by the closed pipe; a write would tell only with the next event.
    pollfd waits[] = {{inbox.fd(), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    ::poll(waits, std::size(waits), -1);  // the listener's own waits have deadlines
    if (waits[1].revents != 0) break;
    for (const kubernetes::News& news : inbox.Take()) more = more && printer.Show(news(core));
  }
  listening.request_stop();
  listening.join();
  kubernetes::RunLook end = printer.seen();
  end.status = status;
  KeepEndSeen(store, job, end);
  return 0;
}

double AgeSeconds(const JobSpec& spec) {
  return std::max(0.0, static_cast<double>(UnixMilliseconds() - spec.created_ms) / 1e3);
}

}  // namespace

Result<int> ShowClusterEvents(const Invocation& invocation, const JobStore& store,
                              const ClusterJob& job) {
  if (invocation.Has("follow")) return FollowEvents(invocation, store, job);
  const auto answer = ReadEvents(*job.run);
  if (answer) {
    PrintAll(*answer, invocation.json());
    return 0;
  }
  const auto look = job.run->Look(k8s::Within(kAnswerTime));
  if (!look) return ReportClusterFailure("events", look.error());
  if (FetchEnd(store, job, *look) || look->gone) {
    const auto kept = job.folder ? ReadFile(job.folder->events()) : Result<std::string>("");
    PrintAll(kept.value_or(""), invocation.json());
  } else {
    if (!look->finished) {
      PrintError(kubernetes::WhyCoordinatorWaits(look->scene) + "; the events it has left:\n");
    }
    PrintAll(look->events, invocation.json());
  }
  return 0;
}

Result<int> ListClusterRuns(const Invocation& invocation) {
  MUSTER_ASSIGN(ClusterTarget target, ChooseTarget(invocation));
  const std::string space = target.place.namespace_name;
  MUSTER_ASSIGN(const auto api, k8s::ApiClient::Create(std::move(target.config)));
  const auto runs = kubernetes::ListRuns(*api, space, "", k8s::Within(kAnswerTime));
  if (!runs) return ReportClusterFailure("ps", runs.error());
  ordered_json list = ordered_json::array();
  std::vector<std::vector<std::string>> rows{
      {"NAME", "RUN", "PHASE", "STEP", "WORKERS", "AGE", "PROGRAM"}};
  for (const kubernetes::ListedRun& run : *runs) {
    kubernetes::RunLook look;
    look.status = run.status;
    look.finished = run.finished;
    json status = json::parse(run.status, nullptr, false);
    if (!status.is_object()) status = PendingStatus(run.spec, "kubernetes");
    if (run.finished) status = EndOf(run.spec, look);
    const auto phase = FieldOr<std::string>(status, "phase", "");
    const auto step = FieldOr<uint64_t>(status, "step", 0);
    const auto total = FieldOr<uint64_t>(status, "total_steps", 0);
    const int world_size = FieldOr(status, "world_size", 0);
    list.push_back({{"name", run.spec.name},
                    {"platform", "kubernetes"},
                    {"namespace", space},
                    {"run", kubernetes::RunName(run.spec)},
                    {"phase", phase},
                    {"step", step},
                    {"total_steps", total},
                    {"world_size", world_size},
                    {"age_seconds", AgeSeconds(run.spec)},
                    {"program", run.spec.argv}});
    rows.push_back({run.spec.name, kubernetes::RunName(run.spec), phase,
                    fmt::format("{}/{}", step, total), fmt::format("{}", world_size),
                    DurationText(AgeSeconds(run.spec)), ShellQuote(run.spec.argv).substr(0, 60)});
  }
  if (invocation.json()) {
    Print(list.dump() + "\n");
  } else {
    Print(list.empty() ? fmt::format("there are no runs in namespace {}\n", space) : Table(rows));
  }
  return 0;
}

}  // namespace muster
