// Reporter: shows a running job to whoever started it: a bar on a terminal, lines elsewhere, JSON with -o json.
//
// Threading: a JobObserver whose methods never block: a thread of its own does the printing, so that a reader who has stopped
// reading cannot stop the job. Finish() waits for it.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "launcher/platform/local/supervisor.h"
#include "launcher/verbs/progress.h"
#include "runtime/base/time.h"

namespace muster {

enum class ReportStyle { kBar, kLines, kJson };

// kBar if stderr is a terminal that can redraw a line (not TERM=dumb, not NO_COLOR).
ReportStyle ChooseStyle(bool json);

class Reporter final : public JobObserver {
 public:
  explicit Reporter(ReportStyle style);
  ~Reporter() override;

  void OnEvent(const std::string& event) override;
  void OnNote(const std::string& text) override;

  // Shows what is left, then the end: `finished` as the last line of JSON, or a summary. Blocks until it is written.
  void Finish(const std::string& job, const std::string& finished);

 private:
  struct Item {
    enum class Kind { kEvent, kNote } kind;
    std::string text;
  };
  void Add(Item item);
  void Run();
  void Show(const Item& item);
  void ShowProgress(const ProgressFigures& figures);
  void ShowLine(const std::string& line);
  void ClearBar();

  const ReportStyle style_;
  // Of the printing thread, and of Finish() once that has ended.
  bool bar_shown_ = false;
  int lines_shown_ = 0;
  TimePoint next_line_{};
  std::string last_line_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;  // guarded by mutex_
  bool ending_ = false;     // guarded by mutex_
  std::jthread thread_;
};

}  // namespace muster
