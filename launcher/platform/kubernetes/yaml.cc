#include "launcher/platform/kubernetes/yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace muster::kubernetes {
namespace {

using Json = nlohmann::ordered_json;

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// What some parser takes for a boolean or for nothing (YAML 1.1, "Language-Independent Types").
bool IsWordOfYaml(std::string_view text) {
  constexpr std::array kWords = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

// Whether `text` is the same text without quotes. All numbers, dates and signs of YAML begin with something else than these.
bool IsPlain(std::string_view text) {
  if (text.empty() || !(IsLetter(text[0]) || text[0] == '/') || text.back() == ':') return false;
  const bool harmless = std::all_of(text.begin(), text.end(), [](char c) {
    return IsLetter(c) || (c >= '0' && c <= '9') || std::string_view("-_./:@").find(c) < 6;
  });
  return harmless && !IsWordOfYaml(text);
}

// Whether `text` can stand in lines as it is: the first one tells the indentation, and one newline is at the end.
bool IsBlock(std::string_view text) {
  if (text.size() < 2 || text.front() == ' ' || text.front() == '\n') return false;
  if (text.back() != '\n' || text[text.size() - 2] == '\n') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); });
}

void EmitText(YAML::Emitter& out, const std::string& text) {
  if (IsPlain(text)) {
    out << text;
  } else if (IsBlock(text)) {
    out << YAML::Literal << text.substr(0, text.size() - 1);  // a block brings one of its own
  } else {
    out << YAML::DoubleQuoted << text;
  }
}

void Emit(YAML::Emitter& out, const Json& value) {
  if (value.is_object()) {
    if (value.empty()) out << YAML::Flow;
    out << YAML::BeginMap;
    for (const auto& [key, item] : value.items()) {
      out << YAML::Key;
      EmitText(out, key);
      out << YAML::Value;
      Emit(out, item);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    if (value.empty()) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (const Json& item : value) Emit(out, item);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    EmitText(out, value.get_ref<const std::string&>());
  } else if (value.is_null()) {
    out << YAML::Null;
  } else {
    out << value.dump();  // true, false, a whole number
  }
}

}  // namespace

std::string ToYaml(const Json& value) {
  YAML::Emitter out;
  Emit(out, value);
  std::string text = out.c_str();
  if (!text.ends_with('\n')) text += '\n';
  return text;
}

}  // namespace muster::kubernetes
