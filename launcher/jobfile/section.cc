#include "launcher/jobfile/section.h"

#include <algorithm>
#include <utility>

#include "launcher/job/suggest.h"
#include "launcher/jobfile/scalars.h"

namespace muster {
namespace {

// ", did you mean X?" or the words there are.
std::string Suggestion(const std::string& typed, const std::vector<std::string>& words) {
  if (const auto near = Nearest(typed, words)) return fmt::format("did you mean {}?", *near);
  return fmt::format("there are {}", fmt::join(words, ", "));
}

}  // namespace

Section::Section(const DocumentNode& node, std::string path, std::string row, Findings& findings)
    : node_(&node), path_(std::move(path)), row_(std::move(row)), findings_(&findings) {
  const std::vector<std::string> keys = KeysOf(row_);
  for (const DocumentEntry& entry : node.entries) {
    if (std::find(keys.begin(), keys.end(), entry.key) != keys.end()) continue;
    const DocumentNode shown{.kind = DocumentNode::Kind::kText, .text = entry.key};
    findings_->errors.push_back(
        {entry.at, fmt::format("there is no key {} {}; {}", Shown(shown),
                               path_.empty() ? "in a job file" : "in " + path_,
                               Suggestion(entry.key, keys))});
  }
  for (const std::string& key : keys) {
    if (!RowOf(key).required || Has(key)) continue;
    Report(node.at, path_.empty() ? "the job" : path_, fmt::format("needs {}", key));
  }
}

std::string Section::PathOf(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

const Field& Section::RowOf(std::string_view key) const {
  return FieldOf(row_.empty() ? std::string(key) : fmt::format("{}.{}", row_, key));
}

void Section::Report(Position at, std::string_view path, const std::string& sentence) {
  findings_->errors.push_back({at, fmt::format("{} {}", path, sentence)});
}

const DocumentNode* Section::Find(std::string_view key) const {
  const DocumentEntry* entry = node_->Find(key);
  return entry == nullptr ? nullptr : &entry->value;
}

void Section::Complain(std::string_view key, const std::string& sentence) {
  const DocumentNode* node = Find(key);
  Report(node == nullptr ? node_->at : node->at, PathOf(key), sentence);
}

const DocumentNode* Section::Take(std::string_view key) {
  const DocumentNode* node = Find(key);
  if (node == nullptr || node->kind == DocumentNode::Kind::kRefused) return nullptr;
  findings_->places[PathOf(key)] = node->at;
  return node;
}

template <typename T>
std::optional<T> Section::Keep(std::string_view key, const DocumentNode& node, Result<T> value) {
  if (value) return std::move(*value);
  Report(node.at, PathOf(key), value.error().message);
  return std::nullopt;
}

std::optional<std::string> Section::Text(std::string_view key, const Rule& rule) {
  (void)RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return std::nullopt;
  auto text = Keep(key, *node, ReadText(*node));
  if (!text || !rule) return text;
  const std::string broken = rule(*text);
  if (broken.empty()) return text;
  Report(node->at, PathOf(key), fmt::format("is {}, {}", Shown(*node), broken));
  return std::nullopt;
}

std::optional<std::string> Section::Choice(std::string_view key) {
  const std::vector<std::string> choices(RowOf(key).choices.begin(), RowOf(key).choices.end());
  return Text(key, [&](const std::string& text) -> std::string {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return "";
    const auto near = Nearest(text, choices);
    return fmt::format("it must be one of {}{}", fmt::join(choices, ", "),
                       near ? fmt::format("; did you mean {}?", *near) : "");
  });
}

std::optional<int64_t> Section::Number(std::string_view key) {
  const Field& row = RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return std::nullopt;
  return Keep(key, *node, ReadWholeNumber(*node, row.low, row.high));
}

std::optional<bool> Section::Switch(std::string_view key) {
  (void)RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return std::nullopt;
  return Keep(key, *node, ReadSwitch(*node));
}

std::optional<WorkerRange> Section::Workers(std::string_view key) {
  const Field& row = RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return std::nullopt;
  return Keep(key, *node, ReadWorkers(*node, static_cast<int>(row.low)));
}

std::vector<std::string> Section::Texts(std::string_view key, const Rule& rule) {
  (void)RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return {};
  if (node->kind != DocumentNode::Kind::kList) {
    Report(node->at, PathOf(key), fmt::format("is {}, it must be a list", Shown(*node)));
    return {};
  }
  std::vector<std::string> texts;
  for (size_t i = 0; i < node->items.size(); ++i) {
    const DocumentNode& item = node->items[i];
    if (item.kind == DocumentNode::Kind::kRefused) continue;
    const std::string path = fmt::format("{}[{}]", PathOf(key), i);
    findings_->places[path] = item.at;
    auto text = ReadText(item);
    const std::string broken = text && rule ? rule(*text) : "";
    if (!text) {
      Report(item.at, path, text.error().message);
    } else if (!broken.empty()) {
      Report(item.at, path, fmt::format("is {}, {}", Shown(item), broken));
    } else {
      texts.push_back(std::move(*text));
    }
  }
  return texts;
}

std::map<std::string, std::string> Section::Names(std::string_view key, const Rule& name_rule,
                                                  const Rule& value_rule) {
  (void)RowOf(key);
  const DocumentNode* node = Take(key);
  if (node == nullptr) return {};
  if (node->kind != DocumentNode::Kind::kMapping) {
    Report(node->at, PathOf(key), fmt::format("is {}, it must be a mapping", Shown(*node)));
    return {};
  }
  std::map<std::string, std::string> names;
  for (const DocumentEntry& entry : node->entries) {
    if (entry.value.kind == DocumentNode::Kind::kRefused) continue;
    const DocumentNode name{.kind = DocumentNode::Kind::kText, .text = entry.key};
    if (const std::string broken = name_rule(entry.key); !broken.empty()) {
      Report(entry.at, PathOf(key), fmt::format("has the name {}, {}", Shown(name), broken));
      continue;
    }
    const std::string path = fmt::format("{}.{}", PathOf(key), entry.key);
    auto text = ReadText(entry.value);
    const std::string broken = text && value_rule ? value_rule(*text) : "";
    if (!text) {
      Report(entry.value.at, path, text.error().message);
    } else if (!broken.empty()) {
      Report(entry.value.at, path, fmt::format("is {}, {}", Shown(entry.value), broken));
    } else {
      names.emplace(entry.key, std::move(*text));
    }
  }
  return names;
}

std::optional<Section> Section::Sub(std::string_view key) {
  const DocumentNode* node = Take(key);
  if (node == nullptr) return std::nullopt;
  if (node->kind == DocumentNode::Kind::kMapping) {
    return Section(*node, PathOf(key), std::string(RowOf(key).path), *findings_);
  }
  Report(node->at, PathOf(key),
         fmt::format("is {}, it must be a mapping with the keys {}", Shown(*node),
                     fmt::join(KeysOf(RowOf(key).path), ", ")));
  return std::nullopt;
}

std::vector<Section> Section::Subs(std::string_view key) {
  const DocumentNode* node = Take(key);
  if (node == nullptr) return {};
  if (node->kind != DocumentNode::Kind::kList || node->items.empty()) {
    const bool empty = node->kind == DocumentNode::Kind::kList;
    Report(node->at, PathOf(key),
           fmt::format("is {}, it must be a list of mappings with the keys {}",
                       empty ? "an empty list" : Shown(*node),
                       fmt::join(KeysOf(RowOf(key).path), ", ")));
    return {};
  }
  std::vector<Section> sections;
  for (size_t i = 0; i < node->items.size(); ++i) {
    const DocumentNode& item = node->items[i];
    const std::string path = fmt::format("{}[{}]", PathOf(key), i);
    if (item.kind == DocumentNode::Kind::kMapping) {
      sections.emplace_back(item, path, std::string(RowOf(key).path), *findings_);
    } else if (item.kind != DocumentNode::Kind::kRefused) {
      Report(item.at, path,
             fmt::format("is {}, it must be a mapping with the keys {}", Shown(item),
                         fmt::join(KeysOf(RowOf(key).path), ", ")));
    }
  }
  return sections;
}

}  // namespace muster
