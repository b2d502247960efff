// What a job has said: `launcher events` and `launcher logs`.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/verbs/cluster_verbs.h"
#include "launcher/verbs/follow.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/progress.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr size_t kLinesAtOnce = 1000;
constexpr int kLookEveryMs = 50;

// Prints whole lines as `format` makes them; false once nobody reads.
template <typename Format>
bool PrintLines(LineFollower& file, Format format) {
  while (true) {
    const std::vector<std::string> lines = file.Read(kLinesAtOnce);
    if (lines.empty()) return true;
    std::string text;
    for (const std::string& line : lines) text += format(line);
    if (!Print(text)) return false;
  }
}

// Waits a moment for more to print; false once nobody reads (a closed pipe), which a write would tell only with the next line.
bool WaitForMore() {
  pollfd reader = {STDOUT_FILENO, 0, 0};
  return ::poll(&reader, 1, kLookEveryMs) <= 0;
}

struct LogLine {
  std::string worker;
  std::string text;
};

// The output of the chosen workers. A line of the runtime begins with its time; others belong to the time before them.
class LogReader {
 public:
  LogReader(JobFolder folder, std::set<std::string> workers)
      : folder_(std::move(folder)), workers_(std::move(workers)) {}

  // Calls `print` for every line there is now, those of different workers in the order of their times; false once `print`
  // returns false.
  template <typename PrintLine>
  bool ReadAll(bool job_has_ended, PrintLine print) {
    FindFiles();
    for (auto& [worker, source] : sources_) Refill(source, job_has_ended);
    while (Source* first = Earliest()) {
      if (!print(LogLine{first->worker, first->lines[first->next++]})) return false;
      if (first->next == first->lines.size()) Refill(*first, job_has_ended);
      first->Advance();
    }
    return true;
  }

 private:
  struct Source {
    std::string worker;
    LineFollower file;
    std::vector<std::string> lines;
    size_t next = 0;
    std::string time;  // of the line at `next`

    void Advance() {
      constexpr size_t kTimeLength = 23;  // 2026-03-01T12:34:56.789
      if (next >= lines.size() || lines[next].size() < kTimeLength) return;
      const std::string start = lines[next].substr(0, kTimeLength);
      if (start[4] == '-' && start[10] == 'T' && start[19] == '.') time = start;
    }
  };

  void FindFiles() {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.logs(), error)) {
      const std::string worker = entry.path().stem().string();
      const bool is_worker = worker.starts_with("w-") && entry.path().extension() == ".log";
      if (!is_worker || sources_.contains(worker)) continue;
      if (!workers_.empty() && !workers_.contains(worker)) continue;
      sources_.emplace(worker, Source{worker, LineFollower(entry.path(), true), {}, 0, {}});
    }
  }

  static void Refill(Source& source, bool job_has_ended) {
    if (source.next < source.lines.size()) return;
    source.lines = source.file.Read(kLinesAtOnce);
    source.next = 0;
    if (source.lines.empty() && job_has_ended) {
      if (std::string rest = source.file.TakeRest(); !rest.empty())
        source.lines.push_back(std::move(rest));
    }
    source.Advance();
  }

  Source* Earliest() {
    Source* first = nullptr;
    for (auto& [worker, source] : sources_) {
      if (source.next >= source.lines.size()) continue;
      if (first == nullptr || source.time < first->time) first = &source;
    }
    return first;
  }

  const JobFolder folder_;
  const std::set<std::string> workers_;
  std::map<std::string, Source> sources_;
};

// The workers that --ranks and --workers name; empty: all.
Result<std::set<std::string>> ChosenWorkers(const Invocation& invocation, const JobStore& store,
                                            const std::string& job) {
  std::set<std::string> chosen;
  for (const std::string& worker : SplitCommas(invocation.Get("workers"))) {
    std::error_code error;
    if (!IsJobName(worker) ||
        !std::filesystem::exists(store.Folder(job).WorkerLog(worker), error)) {
      return Err(Code::kInvalidArgument, "--workers names \"{}\", {} has no worker of that id",
                 worker, job);
    }
    chosen.insert(worker);
  }
  if (!invocation.Has("ranks")) return chosen;
  MUSTER_ASSIGN(const std::vector<int> ranks, ParseNumberList("--ranks", invocation.Get("ranks")));
  MUSTER_ASSIGN(const json status, store.ReadStatus(job));
  MUSTER_ASSIGN(std::set<std::string> ranked, WorkersOfRanks(ranks, status, job, "w-0,w-3"));
  chosen.merge(ranked);
  return chosen;
}

}  // namespace

Result<int> ShowEvents(const Invocation& invocation) {
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, invocation.operands, true));
  if (job.cluster) return ShowClusterEvents(invocation, store, *job.cluster);
  const std::string& name = job.name;
  LineFollower file(store.Folder(name).events(), true);
  while (true) {
    const bool last = !invocation.Has("follow") || !store.IsRunning(name);
    const bool read = PrintLines(
        file, [&](const std::string& line) { return EventLine(line, invocation.json()); });
    if (last || !read || !WaitForMore()) return 0;
  }
}

Result<int> ShowLogs(const Invocation& invocation) {
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  MUSTER_ASSIGN(const FoundJob job, FindAnyJob(invocation, store, invocation.operands, true));
  if (job.cluster) return ShowClusterLogs(invocation, *job.cluster);
  const std::string& name = job.name;
  if (store.IsOnCluster(name)) {
    return WithHint(
        Err(Code::kNotFound, "what the workers of {} have printed went with their pods", name),
        fmt::format("launcher events {0} and launcher status {0} say what is kept", name));
  }
  MUSTER_ASSIGN(std::set<std::string> workers, ChosenWorkers(invocation, store, name));
  LogReader reader(store.Folder(name), std::move(workers));
  const auto print = [&](const LogLine& line) {
    if (!invocation.json()) return Print(fmt::format("{} | {}\n", line.worker, line.text));
    const nlohmann::ordered_json object = {{"worker", line.worker}, {"line", line.text}};
    return Print(object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  };
  while (true) {
    const bool running = store.IsRunning(name);
    const bool last = !invocation.Has("follow") || !running;
    if (!reader.ReadAll(last, print) || last || !WaitForMore()) return 0;
  }
}

}  // namespace muster
