#include <gtest/gtest.h>

#include "launcher/verbs/verb.h"

namespace muster {
namespace {

using Words = std::vector<std::string>;

const Verb& FindVerb(const std::string& name) {
  for (const Verb& verb : Verbs()) {
    if (verb.name == name) return verb;
  }
  ADD_FAILURE() << name;
  return Verbs().front();
}

Result<Invocation> Parse(const std::string& verb, const Words& arguments) {
  return ParseInvocation(FindVerb(verb), arguments);
}

TEST(Invocation, PassesEverythingAfterTheDashesOnVerbatim) {
  const auto run =
      Parse("run", {"--workers", "4", "-o", "json", "--", "prog", "--workers", "9", "--", "-h"});
  ASSERT_TRUE(run) << run.error().ToString();
  EXPECT_EQ(run->Get("workers"), "4");
  EXPECT_TRUE(run->json());
  EXPECT_FALSE(run->Has("help"));
  EXPECT_EQ(run->program, (Words{"prog", "--workers", "9", "--", "-h"}));
}

TEST(Invocation, TakesValuesInEveryUsualForm) {
  EXPECT_EQ(Parse("run", {"--workers=4"})->Get("workers"), "4");
  EXPECT_EQ(Parse("run", {"-w", "4"})->Get("workers"), "4");
  EXPECT_EQ(Parse("run", {"-w4"})->Get("workers"), "4");
  EXPECT_EQ(Parse("logs", {"--ranks", "0,3", "job"})->Get("ranks"), "0,3");
}

TEST(Invocation, ShowsWhereTheDashesBelong) {
  const auto bare = Parse("run", {"--workers", "4", "digits", "--steps", "3"});
  ASSERT_FALSE(bare);
  EXPECT_EQ(bare.error().hint, "try: launcher run --workers 4 -- digits --steps 3");
  const auto late = Parse("run", {"digits", "--", "--steps", "3"});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().hint, "try: launcher run -- digits --steps 3");
}

TEST(Invocation, SuggestsTheNearestOption) {
  const auto run = Parse("run", {"--worker", "4", "--", "x"});
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().message, "there is no option --worker");
  EXPECT_EQ(run.error().hint, "did you mean --workers?");
}

TEST(Invocation, RefusesWhatIsMissingOrTooMuch) {
  EXPECT_EQ(Parse("run", {"--workers"}).error().message,
            "--workers needs a value: --workers N|MIN:MAX");
  EXPECT_EQ(Parse("run", {"--workers", "--", "x"}).error().message,
            "--workers needs a value: --workers N|MIN:MAX");
  EXPECT_EQ(Parse("status", {"a", "b"}).error().message,
            "\"b\" is one argument too many; usage: launcher status [JOB] [OPTIONS]");
  EXPECT_FALSE(Parse("status", {"--", "x"}));
  EXPECT_EQ(Parse("run", {"--resume=false"}).error().message, "--resume takes no value");
  EXPECT_EQ(Parse("ps", {"-o", "yaml"}).error().message,
            "--output is \"yaml\", it must be json or text");
}

TEST(Invocation, EveryVerbExplainsItself) {
  for (const Verb& verb : Verbs()) {
    const std::string help = VerbHelp(verb);
    for (const OptionSpec& option : verb.options) {
      EXPECT_NE(help.find("--" + option.name), help.npos) << verb.name << " " << option.name;
    }
    EXPECT_TRUE(Parse(verb.name, {"--help"})->Has("help")) << verb.name;
    EXPECT_EQ(Overview().find("\n  " + verb.name + " ") != std::string::npos, !verb.hidden)
        << verb.name;
  }
}

TEST(ExitCode, IsTwoForWhatTheUserCanChangeAndOneForTheRest) {
  EXPECT_EQ(ExitCodeOf(Code::kInvalidArgument), 2);
  EXPECT_EQ(ExitCodeOf(Code::kNotFound), 2);
  EXPECT_EQ(ExitCodeOf(Code::kAlreadyExists), 2);
  EXPECT_EQ(ExitCodeOf(Code::kUnimplemented), 2);
  EXPECT_EQ(ExitCodeOf(Code::kInternal), 1);
  EXPECT_EQ(ExitCodeOf(Code::kResourceExhausted), 1);
  EXPECT_EQ(ExitCodeOf(Code::kDeadlineExceeded), 1);
}

}  // namespace
}  // namespace muster
