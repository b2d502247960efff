#include "runtime/train/options.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace muster {
namespace {

Result<TrainCommandLine> Parse(std::vector<const char*> flags, const TrainOptions& defaults = {}) {
  flags.insert(flags.begin(), "/some/where/digits");
  return ParseTrainFlags(flags, "Recognizes digits.", defaults);
}

// The message for a command line that must be refused.
std::string Refusal(const std::vector<const char*>& flags) {
  const auto parsed = Parse(flags);
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code, Code::kInvalidArgument);
  return parsed.error().ToString();
}

TEST(TrainFlags, KeepTheDefaultsOfWhatIsNotGiven) {
  const auto parsed = Parse({}, {.steps = 12, .seed = 34, .micro_batches = 5, .data = "/d"});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->options.steps, 12u);
  EXPECT_EQ(parsed->options.seed, 34u);
  EXPECT_EQ(parsed->options.micro_batches, 5);
  EXPECT_EQ(parsed->options.batch_size, 16);
  EXPECT_EQ(parsed->options.data, "/d");
  EXPECT_EQ(parsed->help, "");
}

TEST(TrainFlags, ReadEveryFlagInBothForms) {
  const auto parsed = Parse({"--steps", "7", "--seed=18446744073709551615", "--micro-batches",
                             "65536", "--batch-size=1048576", "--data", "some folder"});
  ASSERT_TRUE(parsed) << parsed.error().ToString();
  EXPECT_EQ(parsed->options.steps, 7u);
  EXPECT_EQ(parsed->options.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(parsed->options.micro_batches, 65'536);
  EXPECT_EQ(parsed->options.batch_size, 1'048'576);
  EXPECT_EQ(parsed->options.data, "some folder");
}

TEST(TrainFlags, RefuseNumbersOutOfRangeAndNameTheRange) {
  EXPECT_EQ(Refusal({"--micro-batches", "0"}), "--micro-batches must be from 1 to 65536, not 0");
  EXPECT_EQ(Refusal({"--micro-batches", "65537"}),
            "--micro-batches must be from 1 to 65536, not 65537");
  EXPECT_EQ(Refusal({"--batch-size=1048577"}),
            "--batch-size must be from 1 to 1048576, not 1048577");
  EXPECT_EQ(Refusal({"--batch-size", "0"}), "--batch-size must be from 1 to 1048576, not 0");
  EXPECT_EQ(Refusal({"--steps", "0"}), "--steps must be from 1 to 1000000000000, not 0");
  EXPECT_EQ(Refusal({"--steps", "1000000000001"}),
            "--steps must be from 1 to 1000000000000, not 1000000000001");
}

TEST(TrainFlags, RefuseNegativeNumbers) {
  EXPECT_EQ(Refusal({"--steps", "-9223372036854775809"}),
            "--steps must be from 1 to 1000000000000, not -9223372036854775809");
  EXPECT_EQ(Refusal({"--seed=-1"}), "--seed must be from 0 to 18446744073709551615, not -1");
  EXPECT_EQ(Refusal({"--micro-batches", "-4294967295"}),
            "--micro-batches must be from 1 to 65536, not -4294967295");
}

TEST(TrainFlags, RefuseNumbersThatWouldOverflow) {
  EXPECT_EQ(Refusal({"--seed", "18446744073709551616"}),
            "--seed must be from 0 to 18446744073709551615, not 18446744073709551616");
  EXPECT_EQ(Refusal({"--micro-batches", "4294967297"}),
            "--micro-batches must be from 1 to 65536, not 4294967297");
  EXPECT_EQ(Refusal({"--batch-size", "99999999999999999999999999"}),
            "--batch-size must be from 1 to 1048576, not 99999999999999999999999999");
}

TEST(TrainFlags, RefuseWhatIsNotAWholeNumber) {
  for (const char* text :
       {"1e3", "nan", "inf", "", "-", "+5", " 5", "5 ", "0x10", "1.0", "1,000", "ten", "--seed"}) {
    EXPECT_EQ(Refusal({"--steps", text}),
              std::string("--steps must be a whole number from 1 to 1000000000000, not \"") + text +
                  "\"");
  }
  EXPECT_EQ(Refusal({"--seed="}),
            "--seed must be a whole number from 0 to 18446744073709551615, not \"\"");
}

TEST(TrainFlags, RefuseAFlagWithoutItsValue) {
  EXPECT_EQ(Refusal({"--steps", "5", "--seed"}), "--seed needs a value; --help lists the flags");
}

TEST(TrainFlags, RefuseAnEmptyFolder) {
  EXPECT_EQ(Refusal({"--data", ""}), "--data must be a folder, not \"\"");
  EXPECT_EQ(Refusal({"--data="}), "--data must be a folder, not \"\"");
}

TEST(TrainFlags, RefuseAFlagGivenTwice) {
  EXPECT_EQ(Refusal({"--steps", "5", "--steps=6"}), "--steps must be given once, not 2 times");
}

TEST(TrainFlags, NameTheFlagThatWasProbablyMeant) {
  EXPECT_EQ(Refusal({"--stepz", "5"}), "unknown flag --stepz; did you mean --steps?");
  EXPECT_EQ(Refusal({"--stepz=5"}), "unknown flag --stepz; did you mean --steps?");
  EXPECT_EQ(Refusal({"-steps", "5"}), "unknown flag -steps; did you mean --steps?");
  EXPECT_EQ(Refusal({"--micro_batches", "5"}),
            "unknown flag --micro_batches; did you mean --micro-batches?");
  EXPECT_EQ(Refusal({"--micro", "5"}), "unknown flag --micro; did you mean --micro-batches?");
  EXPECT_EQ(Refusal({"--Data", "x"}), "unknown flag --Data; did you mean --data?");
  EXPECT_EQ(Refusal({"--frobnicate"}), "unknown flag --frobnicate; --help lists the flags");
  EXPECT_EQ(Refusal({"---"}), "unknown flag ---; --help lists the flags");
}

TEST(TrainFlags, RefuseWordsThatBelongToNoFlag) {
  const std::string rest = "; this program takes flags only, --help lists them";
  EXPECT_EQ(Refusal({"--steps", "5", "extra"}), "unexpected argument \"extra\"" + rest);
  EXPECT_EQ(Refusal({"10"}), "unexpected argument \"10\"" + rest);
  EXPECT_EQ(Refusal({"--", "extra"}), "unexpected argument \"extra\"" + rest);
  EXPECT_EQ(Refusal({""}), "unexpected argument \"\"" + rest);
}

TEST(TrainFlags, RefuseMoreSamplesThanCanBeCounted) {
  EXPECT_EQ(Refusal({"--steps=1000000000000", "--micro-batches=65536", "--batch-size=1048576"}),
            "--steps x --micro-batches x --batch-size must be at most 9223372036854775807 samples, "
            "not 1000000000000 x 65536 x 1048576");
}

TEST(TrainFlags, HelpTeachesFlagsDefaultsRangesAndTheLauncher) {
  for (const char* flag : {"--help", "-h"}) {
    const auto parsed = Parse({"--steps", "5", flag}, {.steps = 3000});
    ASSERT_TRUE(parsed);
    for (const char* part :
         {"Recognizes digits.", "digits [FLAGS]", "--steps N", "--seed S", "--micro-batches V",
          "--batch-size B", "--data DIR", "(default: 3000)", "65536", "1048576",
          "the program's own", "trains alone", "launcher run --workers 4 -- digits"}) {
      EXPECT_NE(parsed->help.find(part), std::string::npos) << part << " in\n" << parsed->help;
    }
  }
}

TEST(TrainFlags, HelpWinsOverOtherMistakes) {
  const auto parsed = Parse({"--stepz", "--help", "extra"});
  ASSERT_TRUE(parsed);
  EXPECT_NE(parsed->help, "");
}

TEST(TrainFlags, AcceptACommandLineWithoutEvenAProgram) {
  EXPECT_TRUE(ParseTrainFlags({}, "", {}).has_value());
}

TEST(ParseTrainOptionsDeathTest, ExitsWithTwoAndOneSentenceOnABadFlag) {
  std::string program = "digits", flag = "--steps", value = "0";
  char* argv[] = {program.data(), flag.data(), value.data(), nullptr};
  EXPECT_EXIT(ParseTrainOptions(3, argv, "About."), testing::ExitedWithCode(2),
              "^digits: --steps must be from 1 to 1000000000000, not 0\n$");
}

TEST(ParseTrainOptionsDeathTest, ExitsWithZeroOnHelp) {
  std::string program = "digits", flag = "--help";
  char* argv[] = {program.data(), flag.data(), nullptr};
  EXPECT_EXIT(ParseTrainOptions(2, argv, "About."), testing::ExitedWithCode(0), "^$");
}

// The message for options that must be refused.
std::string Problem(const TrainOptions& options) {
  const Status status = options.Validate();
  return status ? "accepted" : status.error().ToString();
}

TEST(TrainOptions, DefaultsAreValid) { EXPECT_EQ(Problem(TrainOptions{}), "accepted"); }

TEST(TrainOptions, RefuseValuesThatNoFlagSets) {
  EXPECT_EQ(Problem({.micro_batches = -1}), "--micro-batches must be from 1 to 65536, not -1");
  EXPECT_EQ(Problem({.learning_rate = nullptr}), "learning_rate must be a schedule");
  EXPECT_EQ(Problem({.clip_norm = -1}), "clip_norm must be 0 or a positive number, not -1");
  EXPECT_EQ(Problem({.clip_norm = std::numeric_limits<double>::quiet_NaN()}),
            "clip_norm must be 0 or a positive number, not nan");
  EXPECT_EQ(Problem({.lane_bits = 16}), "lane_bits must be 0, 32 or 64, not 16");
  EXPECT_EQ(Problem({.headroom_bits = 21}), "headroom_bits must be from 0 to 20, not 21");
  EXPECT_EQ(Problem({.headroom_bits = -1}), "headroom_bits must be from 0 to 20, not -1");
}

TEST(Parameter, SizeIsTheProductOfItsExtents) {
  EXPECT_EQ((Parameter{"w", {3, 4, 5}}).size(), 60);
  EXPECT_EQ((Parameter{"scalar", {}}).size(), 1);
}

TEST(ParameterDeathTest, RefusesExtentsThatMakeNoArray) {
  EXPECT_DEATH((void)(Parameter{"w", {3, 0}}).size(), "parameter w has an extent of 0");
  EXPECT_DEATH((void)(Parameter{"w", {int64_t{1} << 40, int64_t{1} << 40}}).size(), "parameter w");
}

}  // namespace
}  // namespace muster
