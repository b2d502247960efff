#include "launcher/platform/kubernetes/fleet_json.h"

#include <gtest/gtest.h>

namespace muster::fleet {
namespace {

TEST(FleetJson, WhatIsSavedComesBack) {
  const FleetSaved saved{{{"a", 64}, {"b-1", 9'999'999'999}}, true, 3};
  const std::string text = ToJson(saved);
  EXPECT_EQ(text, R"({"serials":{"a":64,"b-1":9999999999},"started":true,"gang_failures":3})");
  EXPECT_EQ(*FleetSavedFromJson(text), saved);
  EXPECT_EQ(*FleetSavedFromJson(ToJson(FleetSaved{})), FleetSaved{});
}

TEST(FleetJson, WhatIsNotExactlyThatIsRefusedByName) {
  const auto refusal = [](const std::string& text) {
    const Result<FleetSaved> saved = FleetSavedFromJson(text);
    EXPECT_FALSE(saved) << text;
    return saved ? "" : saved.error().message;
  };
  EXPECT_EQ(refusal(""), "the state of the fleet: it is no JSON object");
  EXPECT_EQ(refusal("[]"), "the state of the fleet: it is no JSON object");
  EXPECT_EQ(refusal(R"({"serials":{},"started":true})"),
            "the state of the fleet: gang_failures is missing");
  EXPECT_EQ(refusal(R"({"started":true,"gang_failures":0})"),
            "the state of the fleet: serials is missing");
  EXPECT_EQ(refusal(R"({"serials":{},"started":1,"gang_failures":0})"),
            "the state of the fleet: started is neither true nor false");
  EXPECT_EQ(refusal(R"({"serials":{},"started":true,"gang_failures":0,"more":1})"),
            "the state of the fleet: more is unknown");
  EXPECT_EQ(refusal(R"({"serials":[1],"started":true,"gang_failures":0})"),
            "the state of the fleet: serials is no object");
  for (const char* number : {"-1", "1.0", "\"1\"", "null", "10000000000", "18446744073709551615"}) {
    const std::string message = refusal(
        fmt::format(R"({{"serials":{{"a":{}}},"started":true,"gang_failures":0}})", number));
    EXPECT_TRUE(message.starts_with("the state of the fleet: serials.a is ")) << message;
  }
  EXPECT_EQ(refusal(R"({"serials":{},"started":true,"gang_failures":2147483648})"),
            "the state of the fleet: gang_failures is out of range");
}

TEST(FleetJson, TheStatusOfAFleet) {
  FleetStatus status;
  status.phase = "starting";
  status.pools = {{"a", 2, 4, 1, 1, 0, 1, "cut: \xe2\x82"}};
  status.waiting = {{"run-a-2", "not scheduled yet"}};
  const std::string text =
      R"({"phase":"starting","gang_failures":0,"pools":[{"name":"a","min":2,"max":4,"running":1,)"
      R"("waiting":1,"leaving":0,"members":1,"note":"cut: )"
      "\xef\xbf\xbd"
      R"("}],"waiting":[{"pod":"run-a-2","why":"not scheduled yet"}],"message":"",)"
      R"("faults":["list of pods: 503"]})";
  EXPECT_EQ(ToJson(status, {"list of pods: 503"}), text);
}

}  // namespace
}  // namespace muster::fleet
