#include "launcher/verbs/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace muster {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

json Status(int workers) {
  json status = {{"name", "demo"},        {"phase", "running"},      {"generation", 3},
                 {"step", 100},           {"total_steps", 400},      {"loss", 0.25},
                 {"world_size", workers}, {"workers", json::array()}};
  for (int i = 0; i < workers; ++i) {
    status["workers"].push_back({{"id", "w-" + std::to_string(i)},
                                 {"rank", i},
                                 {"state", "training"},
                                 {"step_seconds", 0.010 + 0.001 * i},
                                 {"host", "h"},
                                 {"device", "cpu"}});
  }
  return status;
}

size_t Lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(TopScreen, ShowsTheSlowestWorkersFirst) {
  const std::string text = TopScreen(Status(3), "", {});
  EXPECT_THAT(text, HasSubstr("demo: running, generation 3\n"));
  EXPECT_THAT(text, HasSubstr("w-2     2     training  12.00 ms   1.09 x"));
  EXPECT_LT(text.find("w-2 "), text.find("w-1 "));
  EXPECT_LT(text.find("w-1 "), text.find("w-0 "));
}

TEST(TopScreen, FitsOntoAnyScreen) {
  for (int rows = 10; rows < 40; ++rows) {
    const std::string text = TopScreen(Status(100), "the cluster is not reached", {rows, 40});
    EXPECT_LT(Lines(text), static_cast<size_t>(rows));
    EXPECT_THAT(text, HasSubstr(" faster ones\n"));
    for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
      EXPECT_LE(text.find('\n', begin) - begin, 39U);
    }
  }
}

TEST(TopScreen, SaysWhyNotEverybodyIsThere) {
  json status = Status(0);
  status["platform_status"] = {{"faults", {"list of pods: 403"}},
                               {"waiting",
                                {{{"pod", "workers-1"}, {"why", "no node"}},
                                 {{"pod", "workers-2"}, {"why", "no node"}},
                                 {{"pod", "workers-3"}, {"why", "no image"}}}}};
  const std::string text = TopScreen(status, "not reached", {});
  EXPECT_THAT(
      text,
      HasSubstr(
          "not reached\nlist of pods: 403\nworkers-1 and 1 more: no node\nworkers-3: no image\n"));
  EXPECT_THAT(text, Not(HasSubstr("WORKER")));
}

TEST(TopScreen, TakesAnyStatus) {
  EXPECT_THAT(TopScreen(json::object(), "", {5, 20}), HasSubstr(": pending, generati\n"));
  EXPECT_THAT(TopScreen({{"workers", {1, "x", nullptr}}}, "", {}), HasSubstr("WORKER"));
}

}  // namespace
}  // namespace muster
