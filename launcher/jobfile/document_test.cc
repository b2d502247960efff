#include "launcher/jobfile/document.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace muster {
namespace {

// "3:7 message" for each error.
std::vector<std::string> Errors(std::string_view text) {
  std::vector<std::string> lines;
  for (const FileError& error : ReadDocument(text).errors) {
    lines.push_back(fmt::format("{}:{} {}", error.at.line, error.at.column, error.message));
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST(Document, KeepsScalarsAsTheyAreWrittenAndKnowsWhereTheyStand) {
  const Document document = ReadDocument("a: no\nb:\n  - 010\n  - \"x y\"\nc: {d: 2:8, e: ~}\n");
  ASSERT_TRUE(document.errors.empty());
  EXPECT_TRUE(document.complete);
  const DocumentNode& root = document.root;
  EXPECT_EQ(root.Find("a")->value.text, "no");
  EXPECT_EQ(root.Find("a")->value.at, (Position{1, 4}));
  EXPECT_EQ(root.Find("b")->at, (Position{2, 1}));
  EXPECT_EQ(root.Find("b")->value.items[0].text, "010");
  EXPECT_TRUE(root.Find("b")->value.items[0].plain);
  EXPECT_EQ(root.Find("b")->value.items[1].text, "x y");
  EXPECT_FALSE(root.Find("b")->value.items[1].plain);
  EXPECT_EQ(root.Find("b")->value.items[1].at, (Position{4, 5}));
  EXPECT_EQ(root.Find("c")->value.Find("d")->value.text, "2:8");
  EXPECT_EQ(root.Find("c")->value.Find("e")->value.kind, DocumentNode::Kind::kNothing);
  EXPECT_EQ(root.Find("c")->value.Find("e")->value.at, (Position{5, 16}));
  EXPECT_EQ(root.Find("z"), nullptr);
}

TEST(Document, PlacesAMissingValueAtItsKey) {
  const Document document = ReadDocument("a: 1\nname:\nnull: 3\n");
  EXPECT_EQ(document.root.Find("name")->value.at, (Position{2, 1}));
}

TEST(Document, CountsCharactersNotBytes) {
  EXPECT_EQ(Errors("é: {ü: x, ü: y}\n"), (Lines{"1:11 \"ü\" is given twice, first in line 1"}));
}

TEST(Document, ReadsJsonWithTabsAndEscapes) {
  const Document document =
      ReadDocument("\xEF\xBB\xBF{\r\n\t\"a\": [1,\"\\u00e9\\n\"],\r\n\t\"b\":null\r\n}\r\n");
  ASSERT_TRUE(document.errors.empty()) << document.errors[0].message;
  EXPECT_EQ(document.root.Find("a")->value.items[1].text, "é\n");
  EXPECT_EQ(document.root.Find("b")->value.at, (Position{3, 6}));
}

TEST(Document, RefusesEachThingThatAJobFileDoesNotNeed) {
  const std::vector<std::pair<std::string, Lines>> cases = {
      {"", {"1:1 the file holds nothing"}},
      {"# only this\n", {"1:1 the file holds nothing"}},
      {"a: 1\nb: 2\na: 3\n", {"3:1 \"a\" is given twice, first in line 1"}},
      {"a: &x [1]\nb: *x\n",
       {"1:4 anchors are not allowed; write the value out",
        "2:4 aliases are not allowed; write the value out"}},
      {"b: *y\n", {"1:4 aliases are not allowed; write the value out"}},
      {"a: !!int 3\nb: !x {c: 1}\n",
       {"1:4 tags are not allowed; the key says what kind of value it has",
        "2:4 tags are not allowed; the key says what kind of value it has"}},
      {"a: 1\n---\nb: 2\n", {"2:1 a second document begins here; a job file holds one"}},
      {"- a\nb: c\n", {"2:1 a second document begins here; a job file holds one"}},
      {"? [a]\n: b\n~: c\n", {"1:3 a key must be a word", "3:1 a key must be a word"}},
      {"a:\n\t- b\n  \tc\n",
       {"2:1 a tab in the indentation; use spaces", "3:3 a tab in the indentation; use spaces"}},
      {"-\ta: 1\n",
       {"1:4 a key is not possible here; put text that holds \": \" in quotes (the line holds a "
        "tab)"}},
      {"a: b: c\n", {"1:5 a key is not possible here; put text that holds \": \" in quotes"}},
      {"a: - b\n", {"1:4 a list item is not possible here; begin it on a line of its own"}},
      {"a: [1, 2\n", {"2:1 a \"[\" before this is not closed, or a comma is missing"}},
      {"a: @x\n", {"1:4 text cannot begin with this character; put it in quotes"}},
      {"a: 'x\n", {"1:4 the quote that begins here is not closed"}},
      {"a: 'it''s'\nb: \"x\\\"\n", {"2:4 the quote that begins here is not closed"}},
      {"a: x\n  y\nb: 1\n", {"1:4 text without quotes goes on in the next line; put it in quotes"}},
      {"a: \"\\ud83d\\ude00\"\n",
       {"1:11 this escape is no character; write the character itself (a pair of \\u is two "
        "halves)"}},
      {"a: \"x\\N\"\nb: ['y', \"\\_\"]\n\"\\N\": 1\n",
       {"1:4 the escapes \\N and \\_ are not allowed; write \\u0085 or \\u00a0",
        "2:10 the escapes \\N and \\_ are not allowed; write \\u0085 or \\u00a0",
        "3:1 the escapes \\N and \\_ are not allowed; write \\u0085 or \\u00a0"}},
      {"a: \xff\n", {"1:4 byte 0xff is not valid UTF-8; save the file as UTF-8"}},
      {"é: \xed\xa0\x80\n", {"1:4 byte 0xed is not valid UTF-8; save the file as UTF-8"}},
      {"a: \xc0\x80\n", {"1:4 byte 0xc0 is not valid UTF-8; save the file as UTF-8"}},
      {std::string("a: \0x\n", 6), {"1:4 control character U+0000 is not allowed"}},
      {"a: b\x1b[2J\n", {"1:5 control character U+001B is not allowed"}},
      {"a: \xc2\x85\n", {"1:4 control character U+0085 is not allowed"}},
      {"a: b\rc: d\n", {"1:5 control character U+000D is not allowed"}},
  };
  for (const auto& [text, errors] : cases) EXPECT_EQ(Errors(text), errors) << text;
}

TEST(Document, IsBoundedInSizeAndDepth) {
  EXPECT_EQ(Errors(std::string(kMaxJobFileBytes + 1, 'a')),
            (Lines{"1:1 the file has 262145 bytes, at most 262144 are allowed"}));
  EXPECT_EQ(Errors(std::string(17, '[') + std::string(17, ']')),
            (Lines{"1:17 nested deeper than 16 levels"}));
  EXPECT_EQ(Errors(std::string(100'000, '[')).size(), 1U);
  EXPECT_TRUE(Errors(std::string(16, '[') + std::string(16, ']')).empty());
}

TEST(Document, IsReadInTimeInProportionToItsSize) {
  std::string same;
  std::string line = "{";
  for (int i = 0; same.size() + 20 < kMaxJobFileBytes; ++i) same += fmt::format("k{}: é\n", i / 2);
  for (int i = 0; line.size() + 20 < kMaxJobFileBytes; ++i) line += fmt::format("k{}: é,", i);
  EXPECT_GT(Errors(same).size(), 10'000U);
  EXPECT_TRUE(Errors(line + "}").empty());
}

TEST(Document, SaysWhenTheRestWasNotRead) {
  EXPECT_FALSE(ReadDocument("a: b: c\n").complete);
  EXPECT_TRUE(ReadDocument("a: 1\na: 2\n").complete);
}

}  // namespace
}  // namespace muster
