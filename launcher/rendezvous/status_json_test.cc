#include "launcher/rendezvous/status_json.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace muster {
namespace {

using nlohmann::json;

std::vector<std::string> Keys(const std::string& text) {
  std::vector<std::string> keys;
  const auto object = nlohmann::ordered_json::parse(text);
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

JobStatus SomeStatus() {
  JobStatus status;
  status.phase = Phase::kRunning;
  status.step = 12;
  status.loss = 0.5;
  status.samples_consumed = 3'072;
  status.workers = {{"w-0", 0, 4'711, "here", "cpu", "training", 0.25}};
  status.message = "training with 1 workers";
  return status;
}

TEST(StatusJson, HasTheKeysOfTheContract) {
  const std::string text = StatusJson({"digits", "local"}, SomeStatus());
  EXPECT_EQ(Keys(text), (std::vector<std::string>{"name", "platform", "phase", "generation", "step",
                                                  "total_steps", "world_size", "min_workers",
                                                  "max_workers", "loss", "samples_per_second",
                                                  "samples_consumed", "workers", "message"}));
  const json object = json::parse(text);
  EXPECT_EQ(object["phase"], "running");
  EXPECT_EQ(object["workers"][0], (json{{"id", "w-0"},
                                        {"rank", 0},
                                        {"pid", 4'711},
                                        {"host", "here"},
                                        {"device", "cpu"},
                                        {"state", "training"},
                                        {"step_seconds", 0.25}}));
}

TEST(StatusJson, HasAnEmptyListWithoutWorkers) {
  EXPECT_EQ(json::parse(StatusJson({"digits", "local"}, {}))["workers"], json::array());
}

TEST(StatusJson, TurnsALossThatDivergedIntoNull) {
  JobStatus status;
  status.loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(json::parse(StatusJson({"digits", "local"}, status))["loss"].is_null());
  status.loss = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(json::parse(ProgressJson(status))["loss"].is_null());
}

TEST(StatusJson, IsOneLineOfUtf8WhateverTheText) {
  JobStatus status;
  status.message = "a\nb\xFF\"";
  const std::string text = StatusJson({"digits", "local"}, status);
  EXPECT_EQ(text.find('\n'), text.npos);
  EXPECT_EQ(json::parse(text)["message"], "a\nb\xEF\xBF\xBD\"");
}

TEST(ProgressJson, IsTheStatusInShort) {
  EXPECT_EQ(Keys(ProgressJson(SomeStatus())),
            (std::vector<std::string>{"event", "phase", "generation", "step", "total_steps",
                                      "world_size", "min_workers", "max_workers", "loss",
                                      "samples_per_second", "samples_consumed", "message"}));
}

TEST(EventJson, ExplainsAMembershipChange) {
  MembershipChange change{"w-1 was killed", {"w-0", "w-1"}, {"w-0"}, 12, 1.5, 2, 3, 4, 5, 1};
  const std::string text =
      EventJson(9, WallTime{} + std::chrono::milliseconds(1'500), {"membership", 3, "why", change});
  EXPECT_EQ(Keys(text), (std::vector<std::string>{
                            "sequence", "time", "generation", "kind", "message", "cause",
                            "members_before", "members_after", "step", "detect_ms", "agree_ms",
                            "connect_ms", "state_ms", "resume_ms", "steps_redone"}));
  const json object = json::parse(text);
  EXPECT_EQ(object["time"], "1970-01-01T00:00:01.500Z");
  EXPECT_EQ(object["members_before"], (json{"w-0", "w-1"}));
  EXPECT_EQ(object["resume_ms"], 5.0);
  EXPECT_EQ(EventSequence(text), 9u);
}

TEST(EventJson, HasNoChangeWhereThereWasNone) {
  EXPECT_EQ(Keys(EventJson(1, WallTime{}, {"join", 3, "w-1", std::nullopt})),
            (std::vector<std::string>{"sequence", "time", "generation", "kind", "message"}));
}

TEST(EventSequence, IsZeroForWhatIsNoEvent) {
  for (const std::string_view line :
       {"", "{", "{\"sequence\":", "{\"sequence\":12", "{\"sequence\":x,}", "{\"time\":1}"}) {
    EXPECT_EQ(EventSequence(line), 0u) << line;
  }
}

TEST(FinishedJson, CarriesTheResult) {
  FinishJob finish{Phase::kSucceeded,
                   0,
                   "all 400 steps are done",
                   RunResult{400, 0.1, "abcd", 102'400, 2, {{"accuracy", 0.97}}, false},
                   "",
                   ""};
  const std::string text = FinishedJson(finish, SomeStatus(), 3, 1.5);
  EXPECT_EQ(Keys(text), (std::vector<std::string>{"event", "phase", "step", "loss", "weights",
                                                  "samples_consumed", "generations", "seconds",
                                                  "metrics", "misses", "exit_code", "message",
                                                  "failed_worker", "last_output"}));
  const json object = json::parse(text);
  EXPECT_EQ(object["event"], "finished");
  EXPECT_EQ(object["phase"], "succeeded");
  EXPECT_EQ(object["step"], 400);
  EXPECT_EQ(object["weights"], "abcd");
  EXPECT_EQ(object["metrics"], (json{{"accuracy", 0.97}}));
  EXPECT_EQ(object["misses"], 2);
  EXPECT_EQ(object["generations"], 3);
}

TEST(FinishedJson, FallsBackToTheStatusWithoutAResult) {
  const json object = json::parse(FinishedJson(
      {Phase::kFailed, 3, "w-0 crashed", std::nullopt, "w-0", "boom\n"}, SomeStatus(), 1, 2));
  EXPECT_EQ(object["step"], 12);
  EXPECT_EQ(object["loss"], 0.5);
  EXPECT_EQ(object["samples_consumed"], 3'072);
  EXPECT_TRUE(object["weights"].is_null());
  EXPECT_EQ(object["metrics"], json::object());
  EXPECT_EQ(object["exit_code"], 3);
  EXPECT_EQ(object["last_output"], "boom\n");
}

TEST(Rfc3339, IsUtcWithMilliseconds) {
  EXPECT_EQ(Rfc3339(WallTime{} + std::chrono::milliseconds(1'700'000'000'007)),
            "2023-11-14T22:13:20.007Z");
}

}  // namespace
}  // namespace muster
