#include "launcher/platform/kubernetes/yaml.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <random>

#include "launcher/platform/kubernetes/objects.h"

namespace muster::kubernetes {
namespace {

// What a parser makes of it: quoted scalars are texts, and of plain ones whatever YAML 1.1 takes for something else is not.
Json Parsed(const YAML::Node& node) {
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& entry : node) {
      object[entry.first.as<std::string>()] = Parsed(entry.second);
    }
    return object;
  }
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const auto& item : node) list.push_back(Parsed(item));
    return list;
  }
  if (node.IsNull()) return nullptr;
  if (node.Tag() == "!") return node.as<std::string>();
  bool truth = false;
  double number = 0;
  if (YAML::convert<bool>::decode(node, truth)) return truth;
  if (YAML::convert<double>::decode(node, number)) return static_cast<int64_t>(number);
  return node.as<std::string>();
}

Json ReadBack(const Json& value) { return Parsed(YAML::Load(ToYaml(value))); }

TEST(Yaml, QuotesWhatAParserWouldMisread) {
  for (const std::string text :
       {"on", "Off", "y",    "N",    "yes",   "no",   "true",       "NULL", "~",
        "",   "010", "1e3",  "0x1",  "1:30",  "+1",   "2026-01-02", ".inf", "<<",
        "=",  "- a", "a: b", "a #b", "a:",    "*a",   "&a",         "!a",   "%a",
        "@a", "`a",  "{a",   "[a",   "|",     ">",    "?",          "'a'",  "\"a\"",
        " a", "a ",  "a\tb", "\n",   "a\n\n", "a\nb", "é",          "\x7f"}) {
    const std::string yaml = ToYaml({{"key", text}});
    EXPECT_EQ(yaml.substr(0, 6), "key: \"") << yaml;
    EXPECT_EQ(ReadBack({{"key", text}}), Json({{"key", text}})) << yaml;
    EXPECT_EQ(ReadBack({{text, "value"}}), Json({{text, "value"}})) << yaml;
  }
}

TEST(Yaml, LeavesPlainWordsAlone) {
  const Json value = {{"name", "demo-01234-base-0"},
                      {"image", "registry.example:5000/train@sha256:0123"},
                      {"app.kubernetes.io/managed-by", "muster"},
                      {"mountPath", "/muster/job"},
                      {"port", 7070},
                      {"token", false},
                      {"rules", Json::array({Json::object({{"verbs", {"get", "list", "on"}}})})},
                      {"none", Json::array()},
                      {"empty", Json::object()}};
  EXPECT_EQ(ToYaml(value),
            "name: demo-01234-base-0\n"
            "image: registry.example:5000/train@sha256:0123\n"
            "app.kubernetes.io/managed-by: muster\n"
            "mountPath: /muster/job\n"
            "port: 7070\n"
            "token: false\n"
            "rules:\n"
            "  - verbs:\n"
            "      - get\n"
            "      - list\n"
            "      - \"on\"\n"
            "none: []\n"
            "empty: {}\n");
}

TEST(Yaml, ShowsLinesAsLines) {
  const std::string text = "{\n  \"name\": \"on\",\n\n  \"a\": \"# no comment\"\n}\n";
  const Json value = {{"data", {{"job.json", text}}}, {"next", "word"}};
  EXPECT_EQ(ToYaml(value),
            "data:\n  job.json: |\n    {\n      \"name\": \"on\",\n\n      \"a\": \"# no "
            "comment\"\n    }\nnext: word\n");
  EXPECT_EQ(ReadBack(value), value);
}

TEST(Yaml, RandomTextsAreReadBack) {
  std::mt19937 random(7);
  const std::vector<std::string> pieces = {
      "a",  "no", "0", "1e3", " ", "  ", "\n", "\t", "\r", ": ",   " #",   "- ",
      "\"", "\\", "'", "{",   "é", "😀", "|",  "%",  "?",  "\x01", "\x7f", "\xc2\x85"};
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (auto count = random() % 8; count > 0; --count) text += pieces[random() % pieces.size()];
    const Json value = {{"list", Json::array({text, Json::object({{"x" + text, text}})})}};
    ASSERT_EQ(ReadBack(value), value) << ToYaml(value);
  }
}

}  // namespace
}  // namespace muster::kubernetes
