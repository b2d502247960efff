// Plays every file of testdata/. With MUSTER_REWRITE=1 in the environment it writes what happened into the files instead; look at the
// difference before you keep it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/scenarios/script.h"

namespace muster::scenario {
namespace {

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(SCENARIO_FOLDER)) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem());
  }
  std::ranges::sort(names);
  return names;
}

class Scenario : public testing::TestWithParam<std::string> {};

TEST_P(Scenario, GoesAsWritten) {
  const std::filesystem::path path = std::filesystem::path(SCENARIO_FOLDER) / (GetParam() + ".txt");
  std::ifstream in(path);
  const std::string expected{std::istreambuf_iterator<char>(in), {}};
  ASSERT_FALSE(expected.empty()) << path << " cannot be read";

  Script script;
  const std::string played = script.Play(expected);

  EXPECT_TRUE(script.violations().empty()) << script.violations().front();
  if (std::getenv("MUSTER_REWRITE") != nullptr) {
    std::ofstream(path) << played;
  } else {
    EXPECT_EQ(played, expected)
        << "if this is what should happen: MUSTER_REWRITE=1, and look at the difference";
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Scenario, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace muster::scenario
