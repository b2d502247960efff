#include "k8s/client/json_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::k8s {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Drain(JsonSplitter& splitter) {
  std::vector<std::string> objects;
  while (true) {
    const Result<std::optional<std::string>> object = splitter.Next();
    EXPECT_TRUE(object) << object.error().ToString();
    if (!object || !*object) return objects;
    objects.push_back(**object);
  }
}

// Strings that look like structure, escapes, characters of several bytes, nesting.
const std::vector<std::string> kObjects = {R"({"a":"}{\"\\"})", R"({"b":{"c":[{},{}]}})", "{}",
                                           "{\"ü\":\"日本語 🙂 \\u007d\"}"};

TEST(JsonSplitter, CutsAStreamAtEveryPlaceTheSame) {
  std::string stream;
  for (const std::string& object : kObjects) stream += object + "\n";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    JsonSplitter splitter;
    std::vector<std::string> objects;
    for (size_t at = 0; at < stream.size(); at += piece) {
      splitter.Feed(std::string_view(stream).substr(at, piece));
      for (std::string& object : Drain(splitter)) objects.push_back(std::move(object));
    }
    EXPECT_EQ(objects, kObjects) << piece;
    EXPECT_TRUE(splitter.AtBoundary());
  }
}

TEST(JsonSplitter, NeedsNothingBetweenObjects) {
  JsonSplitter splitter;
  splitter.Feed("{}{}\r\n\t {}");
  EXPECT_THAT(Drain(splitter), ElementsAre("{}", "{}", "{}"));
  EXPECT_TRUE(splitter.AtBoundary());
  splitter.Feed(R"({"half)");
  EXPECT_THAT(Drain(splitter), ElementsAre());
  EXPECT_FALSE(splitter.AtBoundary());
}

TEST(JsonSplitter, WhatIsNoObjectIsAnErrorAndStaysOne) {
  for (const char* bytes : {"<html>", "{}]", "1", "\xef\xbb\xbf{}"}) {
    JsonSplitter splitter;
    splitter.Feed(bytes);
    Result<std::optional<std::string>> object = splitter.Next();
    if (object && *object) object = splitter.Next();
    ASSERT_FALSE(object) << bytes;
    EXPECT_EQ(object.error().code, Code::kDataLoss);
    EXPECT_FALSE(splitter.Next());
  }
}

TEST(JsonSplitter, ALargeObjectComesWholeAndAnEndlessOneIsAnError) {
  JsonSplitter splitter(1'000'000);
  const std::string large = R"({"a":")" + std::string(999'000, 'x') + R"("})";
  splitter.Feed(large);
  EXPECT_THAT(Drain(splitter), ElementsAre(large));
  splitter.Feed(R"({"a":")" + std::string(1'000'000, 'x'));
  const Result<std::optional<std::string>> object = splitter.Next();
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Code::kResourceExhausted);
}

}  // namespace
}  // namespace muster::k8s
