#include "launcher/verbs/top.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "launcher/job/fields.h"
#include "launcher/verbs/progress.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr size_t kFewestWorkers = 3;  // that are shown on the smallest screen
constexpr size_t kMostSentences = 4;

double StepSeconds(const json& worker) { return FieldOr(worker, "step_seconds", 0.0); }

double MedianStep(const std::vector<json>& workers) {
  std::vector<double> steps;
  for (const json& worker : workers) {
    if (StepSeconds(worker) > 0) steps.push_back(StepSeconds(worker));
  }
  if (steps.empty()) return 0;
  const auto middle = steps.begin() + static_cast<ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), middle, steps.end());
  return *middle;
}

std::vector<std::string> Row(const json& worker, double median) {
  const int rank = FieldOr(worker, "rank", -1);
  const double seconds = StepSeconds(worker);
  return {FieldOr<std::string>(worker, "id", ""),
          rank < 0 ? "-" : fmt::format("{}", rank),
          FieldOr<std::string>(worker, "state", ""),
          seconds > 0 ? fmt::format("{:.2f} ms", seconds * 1e3) : "-",
          seconds > 0 && median > 0 ? fmt::format("{:.2f} x", seconds / median) : "-",
          FieldOr<std::string>(worker, "host", ""),
          FieldOr<std::string>(worker, "device", "")};
}

std::string Fitted(const std::string& text, int columns) {
  std::string fitted;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const size_t length = std::min(end - begin, static_cast<size_t>(std::max(columns - 1, 1)));
    fitted.append(text, begin, length).push_back('\n');
    begin = end + 1;
  }
  return fitted;
}

}  // namespace

std::string TopScreen(const json& status, const std::string& trouble, ScreenSize size) {
  const ProgressFigures figures = FiguresOf(status);
  std::string text = fmt::format(
      "{}: {}, generation {}\n{}\n", FieldOr<std::string>(status, "name", ""), figures.phase,
      FieldOr<uint64_t>(status, "generation", 0), ProgressBar(figures, size.columns));
  std::vector<std::string> sentences = PlatformSentences(status, kMostSentences);
  if (!trouble.empty()) sentences.insert(sentences.begin(), trouble);
  for (const std::string& sentence : sentences) text += fmt::format("{}\n", sentence);

  std::vector<json> workers;
  for (const json& worker : FieldOr(status, "workers", json::array())) workers.push_back(worker);
  std::stable_sort(workers.begin(), workers.end(),
                   [](const json& a, const json& b) { return StepSeconds(a) > StepSeconds(b); });
  // Title, bar, sentences, an empty line, the head of the table, what is left out, and the cursor's line.
  const size_t others = 6 + sentences.size();
  const size_t room = size.rows <= 0
                          ? workers.size()
                          : std::max(kFewestWorkers, static_cast<size_t>(size.rows) -
                                                         std::min<size_t>(size.rows, others));
  const double median = MedianStep(workers);
  std::vector<std::vector<std::string>> rows{
      {"WORKER", "RANK", "STATE", "STEP TIME", "OF MEDIAN", "HOST", "DEVICE"}};
  for (size_t i = 0; i < std::min(room, workers.size()); ++i) {
    rows.push_back(Row(workers[i], median));
  }
  if (!workers.empty()) text += fmt::format("\n{}", Table(rows));
  if (workers.size() > room) text += fmt::format("... and {} faster ones\n", workers.size() - room);
  return Fitted(text, size.columns);
}

}  // namespace muster
