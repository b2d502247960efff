#include "launcher/verbs/reporter.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMostQueued = 10'000;  // a reader who is further behind misses progress
constexpr std::chrono::seconds kFirstLinesEvery{2};
constexpr std::chrono::seconds kLinesEvery{30};
constexpr int kFirstLines = 5;

bool IsSet(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

int TerminalWidth() {
  winsize size = {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const auto width = ParseNumber("COLUMNS", columns == nullptr ? "" : columns, 1, 10'000);
  return width ? static_cast<int>(*width) : 80;
}

bool IsProgress(const json& event) {
  return FieldOr<std::string>(event, "event", "") == "progress";
}

// A stored event as a line of `run -o json`: its kind becomes "event", in front.
std::string JsonLine(const std::string& text) {
  const ordered_json stored = ordered_json::parse(text, nullptr, false);
  if (!stored.is_object() || stored.contains("event")) return text + "\n";
  ordered_json line = {{"event", FieldOr<std::string>(stored, "kind", "")}};
  line.update(stored);
  return line.dump() + "\n";
}

}  // namespace

ReportStyle ChooseStyle(bool json) {
  if (json) return ReportStyle::kJson;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || *term == '\0' || std::string_view(term) == "dumb";
  const bool redraws = ::isatty(STDERR_FILENO) == 1 && !dumb && !IsSet("NO_COLOR");
  return redraws ? ReportStyle::kBar : ReportStyle::kLines;
}

Reporter::Reporter(ReportStyle style) : style_(style), thread_([this] { Run(); }) {}

Reporter::~Reporter() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  changed_.notify_all();
}

void Reporter::OnEvent(const std::string& event) { Add({Item::Kind::kEvent, event}); }

void Reporter::OnNote(const std::string& text) { Add({Item::Kind::kNote, text}); }

void Reporter::Add(Item item) {
  const std::lock_guard lock(mutex_);
  if (items_.size() >= kMostQueued) return;
  items_.push_back(std::move(item));
  changed_.notify_all();
}

void Reporter::Run() {
  while (true) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ending_ || !items_.empty(); });
    if (items_.empty()) return;
    const Item item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    Show(item);
  }
}

void Reporter::Show(const Item& item) {
  if (item.kind == Item::Kind::kNote) return ShowLine(item.text);
  if (style_ == ReportStyle::kJson) {
    Print(JsonLine(item.text));
    return;
  }
  const json event = json::parse(item.text, nullptr, false);
  if (IsProgress(event)) return ShowProgress(FiguresOf(event));
  if (IsFinalPhase(FieldOr<std::string>(event, "kind", ""))) return;  // the summary says it
  ShowLine(EventText(event));
}

void Reporter::ShowProgress(const ProgressFigures& figures) {
  if (style_ == ReportStyle::kBar) {
    PrintError("\r\x1b[K" + ProgressBar(figures, TerminalWidth()));
    bar_shown_ = true;
    return;
  }
  const TimePoint now = MonotonicNow();
  const std::string line = ProgressLine(figures);
  if (now < next_line_ || line == last_line_) return;
  next_line_ = now + (++lines_shown_ <= kFirstLines ? kFirstLinesEvery : kLinesEvery);
  last_line_ = line;
  ShowLine(line);
}

void Reporter::ShowLine(const std::string& line) {
  ClearBar();
  PrintError(line + "\n");
}

void Reporter::ClearBar() {
  if (bar_shown_) PrintError("\r\x1b[K");
  bar_shown_ = false;
}

void Reporter::Finish(const std::string& job, const std::string& finished) {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
  ClearBar();
  const json object = json::parse(finished, nullptr, false);
  if (style_ == ReportStyle::kJson) {
    Print(finished + "\n");
    if (FieldOr(object, "exit_code", 0) != 0) PrintError(Summary(job, object));
  } else {
    Print(Summary(job, object));
  }
}

}  // namespace muster
