// Progress: how a job's progress and end look in text. All of it is a function of the figures and the width.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace muster {

struct ProgressFigures {
  std::string phase = "pending";
  uint64_t step = 0;
  uint64_t total_steps = 0;
  double loss = 0;  // NaN: unknown
  double samples_per_second = 0;
  uint64_t samples_consumed = 0;
  int world_size = 0;
  int max_workers = 0;
  std::string message;  // shown while the job is not running
};

// The figures of a progress event or of a status.
ProgressFigures FiguresOf(const nlohmann::json& event);

// Seconds until the last step at the present speed; negative while it cannot be known.
double SecondsLeft(const ProgressFigures& figures);

// One line of at most `width` - 1 characters, so that no terminal wraps it: a bar, then as many of step, loss, speed, workers and
// time left as fit.
std::string ProgressBar(const ProgressFigures& figures, int width);

// One line for a log.
std::string ProgressLine(const ProgressFigures& figures);

// What is wrong with a job's platform and why its pods wait, a sentence each, those that wait for the same reason together; at most
// `most`, the last of which may say how many more there are.
std::vector<std::string> PlatformSentences(const nlohmann::json& status, size_t most);

// An event as a line of text: "generation 3: 4 -> 3 workers at step 120: w-2 ... (back after 14 ms: detect 1, agree 1, ...)".
std::string EventText(const nlohmann::json& event);

// An event as `launcher events` prints it, with its line break: `line` as it is, or with its time and generation as text.
std::string EventLine(const std::string& line, bool as_json);

// What a user reads at the end: the outcome, for a failure the last output of the worker that failed, and what to do next.
std::string Summary(const std::string& job, const nlohmann::json& finished);

}  // namespace muster
