#include "launcher/verbs/progress.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace muster {
namespace {

using nlohmann::json;

ProgressFigures Running() {
  ProgressFigures figures;
  figures.phase = "running";
  figures.step = 100;
  figures.total_steps = 400;
  figures.loss = 0.25;
  figures.samples_per_second = 1000;
  figures.samples_consumed = 25600;
  figures.world_size = 4;
  return figures;
}

TEST(Progress, TellsTheTimeThatIsLeft) {
  EXPECT_DOUBLE_EQ(SecondsLeft(Running()), 300 * 256 / 1000.0);
  ProgressFigures figures = Running();
  figures.samples_per_second = 0;
  EXPECT_LT(SecondsLeft(figures), 0);
  figures = Running();
  figures.step = 400;
  EXPECT_EQ(SecondsLeft(figures), 0);
}

TEST(Progress, ShowsAllFiguresOnAWideTerminal) {
  EXPECT_EQ(ProgressBar(Running(), 120),
            "[##########..............................]  100/400  loss 0.2500  4 workers  1000 "
            "samples/s  ETA 1:16");
}

TEST(Progress, NeverFillsALine) {
  for (int width = 0; width < 200; ++width) {
    for (const std::string phase : {"running", "pending", "recovering"}) {
      ProgressFigures figures = Running();
      figures.phase = phase;
      figures.message = std::string(300, 'm');
      EXPECT_LE(ProgressBar(figures, width).size(), static_cast<size_t>(std::max(0, width - 1)));
      figures.total_steps = 0;
      EXPECT_LE(ProgressBar(figures, width).size(), static_cast<size_t>(std::max(0, width - 1)));
    }
  }
  EXPECT_EQ(ProgressBar(Running(), 10), "100/400");
}

TEST(Progress, KeepsLineBreaksOutOfTheBar) {
  ProgressFigures figures;
  figures.message = "two\nlines";
  EXPECT_EQ(ProgressBar(figures, 80), "pending: two lines");
}

TEST(Progress, SaysWhatAJobIsDoingThatDoesNotMove) {
  ProgressFigures figures = Running();
  figures.phase = "recovering";
  EXPECT_EQ(ProgressLine(figures),
            "step 100/400  recovering  loss 0.2500  4 workers  1000 samples/s");
}

TEST(Progress, ReadsAnEventWithNullsAndGaps) {
  const ProgressFigures figures =
      FiguresOf(json::parse(R"({"phase": "running", "step": 3, "loss": null})"));
  EXPECT_EQ(figures.step, 3U);
  EXPECT_EQ(figures.total_steps, 0U);
  EXPECT_TRUE(std::isnan(figures.loss));
}

TEST(Progress, TellsWhatAMembershipChangeCost) {
  const json event = {{"kind", "membership"}, {"message", "generation 2: 4 -> 3 workers"},
                      {"detect_ms", 1.0},     {"agree_ms", 2.0},
                      {"connect_ms", 3.5},    {"state_ms", 0.0},
                      {"resume_ms", 4.0},     {"steps_redone", 1}};
  EXPECT_EQ(EventText(event),
            "generation 2: 4 -> 3 workers (10 ms: detect 1.0 agree 2.0 connect 3.5 state 0.0 "
            "resume 4.0; 1 step redone)");
}

TEST(Summary, ShowsTheResult) {
  const json finished = {{"phase", "succeeded"},
                         {"message", "all 400 steps are done"},
                         {"step", 400},
                         {"loss", 0.0123},
                         {"weights", "ab"},
                         {"samples_consumed", 102400},
                         {"generations", 3},
                         {"seconds", 2.5},
                         {"metrics", {{"test_accuracy", 0.97}}},
                         {"exit_code", 0}};
  EXPECT_EQ(Summary("digits-7f3a", finished),
            "digits-7f3a succeeded: all 400 steps are done\n"
            "  step 400  loss 0.0123  102400 samples  3 generations  2.5 s\n"
            "  weights ab\n"
            "  test_accuracy 0.97\n"
            "what happened meanwhile: launcher events digits-7f3a\n");
}

TEST(Summary, ShowsTheLastWordsOfTheWorkerThatFailed) {
  const json finished = {{"phase", "failed"},
                         {"message", "w-2 was killed by SIGSEGV"},
                         {"failed_worker", "w-2"},
                         {"last_output", "reading data\nboom\n"},
                         {"exit_code", 3}};
  const std::string text = Summary("j", finished);
  EXPECT_NE(text.find("j failed: w-2 was killed by SIGSEGV\n"), text.npos);
  EXPECT_NE(text.find("the last it printed (w-2):\n  | reading data\n  | boom\n"), text.npos);
  EXPECT_NE(text.find("launcher logs j"), text.npos);
}

}  // namespace
}  // namespace muster
