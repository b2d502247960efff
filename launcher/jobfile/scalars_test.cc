#include "launcher/jobfile/scalars.h"

#include <gtest/gtest.h>

#include "runtime/base/check.h"

namespace muster {
namespace {

DocumentNode Value(std::string_view text) {
  const Document document = ReadDocument(fmt::format("value: {}\n", text));
  MUSTER_CHECK(document.errors.empty(), "{}: {}", text, document.errors[0].message);
  return document.root.Find("value")->value;
}

// What is read, or what is wrong.
std::string AsText(std::string_view text) {
  const auto value = ReadText(Value(text));
  return value ? *value : "! " + value.error().message;
}
std::string AsNumber(std::string_view text) {
  const auto value = ReadWholeNumber(Value(text), 1, 1000);
  return value ? fmt::format("{}", *value) : "! " + value.error().message;
}
std::string AsSwitch(std::string_view text) {
  const auto value = ReadSwitch(Value(text));
  return value ? fmt::format("{}", *value) : "! " + value.error().message;
}
std::string AsWorkers(std::string_view text) {
  const auto value = ReadWorkers(Value(text), 1);
  return value ? fmt::format("{} to {}", value->min, value->max) : "! " + value.error().message;
}

TEST(Scalars, AreTheWrittenLettersWhereTextIsWanted) {
  for (const char* text :
       {"no",    "yes", "on",   "off",  "true", "010",        "1e3",      "0x10",
        "1_000", "2:8", "1.50", ".inf", ".nan", "2026-11-24", "12:30:45", "0o17",
        "+5",    "<<",  "=",    "y",    "n",    "NO",         "False",    "0b1"}) {
    EXPECT_EQ(AsText(text), text);
    EXPECT_EQ(AsText(fmt::format("\"{}\"", text)), text);
  }
  EXPECT_EQ(AsText("\"~\""), "~");
  EXPECT_EQ(AsText("'null'"), "null");
  EXPECT_EQ(AsText("\"\""), "");
  EXPECT_EQ(AsText("|\n  x\n  y\n"), "x\ny\n");
}

TEST(Scalars, AreNothingWhereNothingIsWritten) {
  for (const char* text : {"~", "null", "Null", "NULL", ""}) {
    EXPECT_EQ(AsText(text),
              "! has no value; write \"\" for an empty text, and quotes around ~ or null");
    EXPECT_EQ(AsNumber(text), "! is empty, it must be a whole number from 1 to 1000");
    EXPECT_EQ(AsSwitch(text), "! is empty, it must be true or false");
  }
  EXPECT_EQ(AsText("[a]"), "! is a list, it must be text");
  EXPECT_EQ(AsText("{a: b}"), "! is a mapping, it must be text");
  EXPECT_EQ(AsText("\"a\\0b\""), "! holds a NUL character, which no program can be given");
}

TEST(Scalars, AreNumbersOnlyInDecimalDigits) {
  EXPECT_EQ(AsNumber("1"), "1");
  EXPECT_EQ(AsNumber("1000"), "1000");
  const std::string must = ", it must be a whole number from 1 to 1000";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"0", "! is 0" + must},
      {"1001", "! is 1001" + must},
      {"-3", "! is -3" + must},
      {"99999999999999999999", "! is 99999999999999999999" + must},
      {"010", "! is \"010\"" + must + "; a leading zero is not allowed: write 10"},
      {"00", "! is \"00\"" + must + "; a leading zero is not allowed: write 0"},
      {"0x10", "! is \"0x10\"" + must + "; hexadecimal is not allowed: write 16"},
      {"\"10\"", "! is \"10\"" + must + "; write it without quotes"},
      {"1e3", "! is \"1e3\"" + must + "; write decimal digits only"},
      {"1_000", "! is \"1_000\"" + must + "; write decimal digits only"},
      {"1.0", "! is \"1.0\"" + must + "; write decimal digits only"},
      {"+5", "! is \"+5\"" + must + "; write decimal digits only"},
      {"0o17", "! is \"0o17\"" + must + "; write decimal digits only"},
      {"1:30", "! is \"1:30\"" + must + "; write decimal digits only"},
      {"ten", "! is \"ten\"" + must + "; write decimal digits only"},
      {"[1]", "! is a list" + must},
  };
  for (const auto& [text, read] : cases) EXPECT_EQ(AsNumber(text), read);
}

TEST(Scalars, AreSwitchesOnlyAsTrueAndFalse) {
  EXPECT_EQ(AsSwitch("true"), "true");
  EXPECT_EQ(AsSwitch("false"), "false");
  for (const std::string text : {"no", "yes", "on", "off", "True", "FALSE", "y", "1", "0"}) {
    EXPECT_EQ(AsSwitch(text), fmt::format("! is \"{}\", it must be true or false", text));
  }
  EXPECT_EQ(AsSwitch("\"true\""), "! is \"true\", it must be true or false, without quotes");
}

TEST(Scalars, AreWorkersAsANumberOrARange) {
  EXPECT_EQ(AsWorkers("4"), "4 to 4");
  EXPECT_EQ(AsWorkers("\"4\""), "4 to 4");
  EXPECT_EQ(AsWorkers("2:8"), "2 to 8");
  EXPECT_EQ(AsWorkers("1:4096"), "1 to 4096");
  for (const std::string text : {"0", "0:2", "4097", "2:", ":2", "1:2:3", "04", "2:08", "0x2",
                                 "2.5", "-1", "four", "1e3", "2 :8", "99999999999999999999"}) {
    EXPECT_EQ(AsWorkers(fmt::format("'{}'", text)),
              fmt::format("! is \"{}\", it must be a number from 1 to 4096, or two of them as "
                          "MIN:MAX",
                          text));
  }
  EXPECT_EQ(AsWorkers("8:2"), "! is \"8:2\": the minimum is larger than the maximum");
  EXPECT_EQ(ReadWorkers(Value("0:8"), 0)->min, 0);
  EXPECT_FALSE(ReadWorkers(Value("0"), 0).has_value() && ReadWorkers(Value("0"), 0)->max == 0);
}

TEST(Scalars, AreShownShortAndOnOneLine) {
  EXPECT_EQ(Shown(Value("\"a\\nb\"")), "\"a b\"");
  EXPECT_LT(Shown(Value(std::string(10'000, 'x'))).size(), 80U);
}

}  // namespace
}  // namespace muster
