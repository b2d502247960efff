#include "launcher/platform/kubernetes/pod_logs.h"

#include <algorithm>
#include <utility>

#include "k8s/client/json_fields.h"
#include "launcher/platform/kubernetes/names.h"
#include "launcher/platform/kubernetes/run_objects.h"
#include "runtime/base/pause.h"

namespace muster::kubernetes {
namespace {

using namespace std::chrono_literals;
using k8s::StringAt;
using nlohmann::json;

constexpr Duration kOpenTime = 30s;
constexpr auto kAgain = 1s;               // a pod whose container has not started yet has no log
constexpr size_t kMostQueued = 4096;      // lines; who prints slowly makes the pods' streams wait
constexpr size_t kLongestLine = 1 << 20;  // a longer one is handed out in pieces

// Cuts whole lines off the front of *text.
template <typename OnLine>
void TakeLines(std::string* text, OnLine on_line) {
  size_t begin = 0;
  for (size_t end; (end = text->find('\n', begin)) != text->npos; begin = end + 1) {
    on_line(text->substr(begin, end - begin));
  }
  text->erase(0, begin);
  if (text->size() > kLongestLine) on_line(std::exchange(*text, {}));
}

bool IsTime(std::string_view word) {
  return word.size() >= 20 && word[4] == '-' && word[10] == 'T' && word[13] == ':' &&
         (word.back() == 'Z' || word.find_first_of("+-", 19) != word.npos);
}

std::string IdOf(const json& pod) {
  const json& labels = k8s::At(pod, {"metadata", "labels"});
  const std::string pool = labels.is_object() ? labels.value(std::string(kPoolLabel), "") : "";
  const json& notes = k8s::At(pod, {"metadata", "annotations"});
  const std::string serial =
      notes.is_object() ? notes.value(std::string(kSerialAnnotation), "") : "";
  return pool.empty() || serial.empty() ? "" : pool + "-" + serial;
}

}  // namespace

Result<std::vector<LoggingPod>> PodsWithLogs(const RemoteRun& run, const k8s::Call& call) {
  MUSTER_ASSIGN(const k8s::ObjectList list,
                run.api().List(k8s::kPods, run.namespace_name(),
                               {.label_selector = RunSelector(run.spec())}, call));
  std::vector<LoggingPod> pods;
  std::string coordinator_since;
  LoggingPod coordinator;
  for (const json& pod : list.items) {
    if (StringAt(pod, {"status", "phase"}) == "Pending") continue;
    const std::string name = StringAt(pod, {"metadata", "name"});
    const json& labels = k8s::At(pod, {"metadata", "labels"});
    const std::string since = StringAt(pod, {"metadata", "creationTimestamp"});
    if (labels.value(std::string(kComponentLabel), "") == "coordinator") {
      if (since < coordinator_since) continue;
      coordinator = {"coordinator", name};
      coordinator_since = since;
    } else if (const std::string id = IdOf(pod); !id.empty()) {
      pods.push_back({id, name});
    }
  }
  if (!coordinator.pod.empty()) pods.push_back(std::move(coordinator));
  std::sort(pods.begin(), pods.end(),
            [](const LoggingPod& a, const LoggingPod& b) { return a.id < b.id; });
  return pods;
}

TimedLine SplitTime(std::string line) {
  const size_t space = line.find(' ');
  if (space == line.npos || !IsTime(std::string_view(line).substr(0, space))) {
    return {"", std::move(line)};
  }
  return {line.substr(0, space), line.substr(space + 1)};
}

LogLine LineOf(const std::string& pod, std::string text) {
  const size_t end = text.find("] ");
  if (end == text.npos || !text.starts_with("[" + pod + "-")) return {pod, std::move(text)};
  return {text.substr(1, end - 1), text.substr(end + 2)};
}

std::vector<LogLine> ReadLogs(const RemoteRun& run, const std::vector<LoggingPod>& pods,
                              std::vector<std::string>* failed) {
  struct Row {
    std::string time;
    LogLine line;
  };
  std::vector<Row> rows;
  for (const auto& [id, pod] : pods) {
    const k8s::Call call = k8s::Within(kOpenTime);
    auto stream = run.api().PodLog(run.namespace_name(), pod, {.timestamps = true}, call);
    std::string text;
    std::string time;
    const auto add = [&rows, &time, &id = id](std::string line) {
      TimedLine timed = SplitTime(std::move(line));
      if (!timed.time.empty()) time = std::move(timed.time);
      rows.push_back({time, LineOf(id, std::move(timed.text))});
    };
    Status read = stream ? Status{} : tl::unexpected(stream.error());
    while (read) {
      auto bytes = (*stream)->Read(call.deadline);
      if (!bytes) read = tl::unexpected(bytes.error());
      if (!bytes || bytes->empty()) break;
      text += *bytes;
      TakeLines(&text, add);
    }
    if (!text.empty()) add(std::move(text));
    if (!read) failed->push_back(fmt::format("the log of {}: {}", id, read.error().message));
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.time < b.time; });
  std::vector<LogLine> lines;
  lines.reserve(rows.size());
  for (Row& row : rows) lines.push_back(std::move(row.line));
  return lines;
}

LogFollower::~LogFollower() {
  for (auto& [pod, reader] : readers_) reader.request_stop();
}

void LogFollower::Add(const std::vector<LoggingPod>& pods) {
  for (const LoggingPod& pod : pods) {
    if (readers_.contains(pod.pod)) continue;
    {
      const std::lock_guard lock(mutex_);
      ++reading_;
    }
    readers_.emplace(pod.pod,
                     std::jthread([this, pod](const std::stop_token& stop) { Read(pod, stop); }));
  }
}

void LogFollower::Read(const LoggingPod& pod, const std::stop_token& stop) {
  bool first = true;
  while (!stop.stop_requested()) {
    if (!std::exchange(first, false) && !PauseFor(kAgain, stop)) break;
    auto stream = run_.api().PodLog(run_.namespace_name(), pod.pod, {.follow = true},
                                    k8s::Within(kOpenTime, stop));
    if (!stream && stream.error().code == Code::kNotFound) break;
    if (!stream) continue;
    std::string text;
    const auto put = [&](std::string line) { Put(LineOf(pod.id, std::move(line)), stop); };
    while (true) {
      const auto bytes = (*stream)->Read(TimePoint::max());
      if (!bytes || bytes->empty()) break;
      text += *bytes;
      TakeLines(&text, put);
    }
    if (!text.empty()) put(std::move(text));
    break;  // to read it again from its beginning would show lines twice
  }
  const std::lock_guard lock(mutex_);
  --reading_;
  changed_.notify_all();
}

void LogFollower::Put(LogLine line, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop, [this] { return lines_.size() < kMostQueued; });
  if (stop.stop_requested()) return;
  lines_.push_back(std::move(line));
  changed_.notify_all();
}

std::vector<LogLine> LogFollower::Take(TimePoint until) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, until, [this] { return !lines_.empty(); });
  std::vector<LogLine> taken(std::make_move_iterator(lines_.begin()),
                             std::make_move_iterator(lines_.end()));
  lines_.clear();
  changed_.notify_all();
  return taken;
}

bool LogFollower::AllEnded() {
  const std::lock_guard lock(mutex_);
  return reading_ == 0 && lines_.empty();
}

}  // namespace muster::kubernetes
