#include "launcher/verbs/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "launcher/job/fields.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

std::string LossText(double loss) {
  return std::isfinite(loss) ? fmt::format("loss {:.4f}", loss) : "loss -";
}

std::string CountText(double count) {
  if (!std::isfinite(count)) return "-";
  if (count >= 1e6) return fmt::format("{:.1f}M", count / 1e6);
  if (count >= 1e4) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

bool IsMoving(const ProgressFigures& figures) {
  return figures.phase == "running" || figures.phase == "resizing";
}

// The parts after the bar, the most important ones first.
std::vector<std::string> Parts(const ProgressFigures& figures) {
  std::vector<std::string> parts{fmt::format("{}/{}", figures.step, figures.total_steps)};
  if (!IsMoving(figures)) parts.push_back(figures.phase);
  if (figures.step > 0) parts.push_back(LossText(figures.loss));
  parts.push_back(WorkersText(figures.world_size, figures.world_size));
  if (figures.samples_per_second > 0) {
    parts.push_back(CountText(figures.samples_per_second) + " samples/s");
  }
  if (const double left = SecondsLeft(figures); left >= 0)
    parts.push_back("ETA " + DurationText(left));
  return parts;
}

std::string Bar(const ProgressFigures& figures, int cells) {
  const double part = figures.total_steps == 0 ? 0
                                               : static_cast<double>(figures.step) /
                                                     static_cast<double>(figures.total_steps);
  const int done = static_cast<int>(std::clamp(part, 0.0, 1.0) * cells);
  return fmt::format("[{:#>{}}{:.>{}}]", "", done, "", cells - done);
}

std::string Phases(const json& event) {
  const double total = FieldOr(event, "detect_ms", 0.0) + FieldOr(event, "agree_ms", 0.0) +
                       FieldOr(event, "connect_ms", 0.0) + FieldOr(event, "state_ms", 0.0) +
                       FieldOr(event, "resume_ms", 0.0);
  std::string text = fmt::format(" ({:.0f} ms:", std::max(0.0, total));
  for (const char* name : {"detect", "agree", "connect", "state", "resume"}) {
    const double ms = FieldOr(event, fmt::format("{}_ms", name).c_str(), -1.0);
    text += ms < 0 ? fmt::format(" {} -", name) : fmt::format(" {} {:.1f}", name, ms);
  }
  const int redone = FieldOr(event, "steps_redone", 0);
  return text + fmt::format("; {} step{} redone)", redone, redone == 1 ? "" : "s");
}

std::string NextSteps(const std::string& job, const json& finished) {
  switch (FieldOr(finished, "exit_code", 0)) {
    case 0:
      return fmt::format("what happened meanwhile: launcher events {}\n", job);
    case 2:
      return fmt::format(
          "next: correct the options named above and run it again; the whole output: launcher logs "
          "{}\n",
          job);
    case 6:
      return "next: run without --resume to begin anew, or give the folder of a good checkpoint\n";
    default:
      return fmt::format(
          "next: read the whole output with launcher logs {}, and the events with launcher events "
          "{}\n",
          job, job);
  }
}

std::string Indented(const std::string& text) {
  std::string result = "  | ";
  for (const char c : text.substr(0, text.find_last_not_of('\n') + 1)) {
    result += c;
    if (c == '\n') result += "  | ";
  }
  return result + "\n";
}

}  // namespace

ProgressFigures FiguresOf(const json& event) {
  ProgressFigures figures;
  figures.phase = FieldOr(event, "phase", figures.phase);
  figures.step = FieldOr<uint64_t>(event, "step", 0);
  figures.total_steps = FieldOr<uint64_t>(event, "total_steps", 0);
  figures.loss = FieldOr(event, "loss", kUnknown);
  figures.samples_per_second = FieldOr(event, "samples_per_second", 0.0);
  figures.samples_consumed = FieldOr<uint64_t>(event, "samples_consumed", 0);
  figures.world_size = FieldOr(event, "world_size", 0);
  figures.max_workers = FieldOr(event, "max_workers", 0);
  figures.message = FieldOr<std::string>(event, "message", "");
  return figures;
}

double SecondsLeft(const ProgressFigures& figures) {
  if (!IsMoving(figures) || figures.step == 0 || figures.samples_per_second <= 0) return -1;
  if (figures.step >= figures.total_steps) return 0;
  const double samples_per_step =
      static_cast<double>(figures.samples_consumed) / static_cast<double>(figures.step);
  return static_cast<double>(figures.total_steps - figures.step) * samples_per_step /
         figures.samples_per_second;
}

std::string ProgressBar(const ProgressFigures& figures, int width) {
  constexpr int kShortestBar = 10;
  constexpr int kLongestBar = 40;
  const int room = std::max(0, width - 1);
  const bool waiting = figures.total_steps == 0;
  std::string text = waiting ? figures.phase + ": " + figures.message : "";
  if (!waiting) {
    for (const std::string& part : Parts(figures)) {
      const std::string longer = text + (text.empty() ? "" : "  ") + part;
      if (static_cast<int>(longer.size()) > room) break;
      text = longer;
    }
    const int cells = std::min(kLongestBar, room - static_cast<int>(text.size()) - 4);
    if (cells >= kShortestBar) text = Bar(figures, cells) + "  " + text;
  }
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text.substr(0, static_cast<size_t>(room));
}

std::string ProgressLine(const ProgressFigures& figures) {
  if (figures.total_steps == 0) return figures.phase + ": " + figures.message;
  return fmt::format("step {}", fmt::join(Parts(figures), "  "));
}

std::vector<std::string> PlatformSentences(const json& status, size_t most) {
  const json platform = FieldOr(status, "platform_status", json::object());
  std::vector<std::string> sentences;
  for (const json& fault : FieldOr(platform, "faults", json::array())) {
    if (fault.is_string()) sentences.push_back(fault.get<std::string>());
  }
  std::vector<std::pair<std::string, std::vector<std::string>>> waiting;  // why, and who
  for (const json& pod : FieldOr(platform, "waiting", json::array())) {
    const auto why = FieldOr<std::string>(pod, "why", "");
    auto same = std::find_if(waiting.begin(), waiting.end(),
                             [&](const auto& entry) { return entry.first == why; });
    if (same == waiting.end()) same = waiting.insert(waiting.end(), {why, {}});
    same->second.push_back(FieldOr<std::string>(pod, "pod", ""));
  }
  for (const auto& [why, pods] : waiting) {
    const std::string others =
        pods.size() > 1 ? fmt::format(" and {} more", pods.size() - 1) : std::string();
    sentences.push_back(fmt::format("{}{}: {}", pods.front(), others, why));
  }
  if (sentences.size() > most) {
    const size_t more = sentences.size() - most + 1;
    sentences.resize(most - 1);
    sentences.push_back(fmt::format("... and {} more", more));
  }
  return sentences;
}

std::string EventText(const json& event) {
  const auto kind = FieldOr<std::string>(event, "kind", "");
  std::string text = FieldOr<std::string>(event, "message", "");
  if (kind == "membership") text += Phases(event);
  return text;
}

std::string EventLine(const std::string& line, bool as_json) {
  if (as_json) return line + "\n";
  const json event = json::parse(line, nullptr, false);
  return fmt::format("{}  gen {:<3} {:<14} {}\n", FieldOr<std::string>(event, "time", ""),
                     FieldOr<uint64_t>(event, "generation", 0),
                     FieldOr<std::string>(event, "kind", ""), EventText(event));
}

std::string Summary(const std::string& job, const json& finished) {
  const auto phase = FieldOr<std::string>(finished, "phase", "failed");
  std::string text =
      fmt::format("{} {}: {}\n", job, phase, FieldOr<std::string>(finished, "message", ""));
  const auto generations = FieldOr<uint64_t>(finished, "generations", 0);
  text += fmt::format(
      "  step {}  {}  {} samples  {} generation{}  {:.1f} s\n",
      FieldOr<uint64_t>(finished, "step", 0),
      LossText(FieldOr<uint64_t>(finished, "step", 0) == 0 ? kUnknown
                                                           : FieldOr(finished, "loss", kUnknown)),
      FieldOr<uint64_t>(finished, "samples_consumed", 0), generations, generations == 1 ? "" : "s",
      FieldOr(finished, "seconds", 0.0));
  if (const auto weights = FieldOr<std::string>(finished, "weights", ""); !weights.empty()) {
    text += fmt::format("  weights {}\n", weights);
  }
  const json metrics = FieldOr(finished, "metrics", json::object());
  for (const auto& [name, value] : metrics.items()) {
    text += fmt::format("  {} {}\n", name, value.dump());
  }
  const auto worker = FieldOr<std::string>(finished, "failed_worker", "");
  const auto output = FieldOr<std::string>(finished, "last_output", "");
  if (!output.empty()) {
    text += fmt::format("the last it printed{}:\n{}", worker.empty() ? "" : " (" + worker + ")",
                        Indented(output));
  }
  return text + NextSteps(job, finished);
}

}  // namespace muster
