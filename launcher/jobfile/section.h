// Section: reads the keys of one mapping of a job file by the rows of the schema, and collects what is wrong.
//
// Threading: none; values of one reading.
// Ownership: refers to the tree and to the Findings, which must outlive it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/job/job.h"
#include "launcher/jobfile/document.h"
#include "launcher/jobfile/schema.h"
#include "runtime/base/status.h"

namespace muster {

// What a reading has found: errors, and where the values stand.
struct Findings {
  std::vector<FileError> errors;
  std::map<std::string, Position> places;
};

// A rule for a text: an empty string if it is kept, else the end of a sentence that begins with the key.
using Rule = std::function<std::string(const std::string& text)>;

class Section {
 public:
  // `node` is the mapping at `path` ("pools[1].device"); `row` is the same for the schema ("pools.device"). Reports keys that the
  // schema does not have with the nearest one that it has, and required ones that are not there.
  Section(const DocumentNode& node, std::string path, std::string row, Findings& findings);

  // The value of `key` if it is there and right; errors are reported. Each aborts if the schema has no such key.
  std::optional<std::string> Text(std::string_view key, const Rule& rule = nullptr);
  std::optional<std::string> Choice(std::string_view key);
  std::optional<int64_t> Number(std::string_view key);
  std::optional<bool> Switch(std::string_view key);
  std::optional<WorkerRange> Workers(std::string_view key);
  // Those of the entries that are right.
  std::vector<std::string> Texts(std::string_view key, const Rule& rule = nullptr);
  std::map<std::string, std::string> Names(std::string_view key, const Rule& name_rule,
                                           const Rule& value_rule = nullptr);
  // The section of `key` if it is there and a mapping.
  std::optional<Section> Sub(std::string_view key);
  // The sections of a list of mappings.
  std::vector<Section> Subs(std::string_view key);

  // The node of `key`, or null; without any check.
  const DocumentNode* Find(std::string_view key) const;
  // Reports that the value of `key`, or of the section if there is none, is wrong: "KEY " and then `sentence`.
  void Complain(std::string_view key, const std::string& sentence);
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  Position at() const { return node_->at; }

 private:
  // The node of `key` if it is worth a look; its place is noted.
  const DocumentNode* Take(std::string_view key);
  std::string PathOf(std::string_view key) const;
  const Field& RowOf(std::string_view key) const;
  void Report(Position at, std::string_view path, const std::string& sentence);
  template <typename T>
  std::optional<T> Keep(std::string_view key, const DocumentNode& node, Result<T> value);

  const DocumentNode* node_;
  std::string path_;
  std::string row_;
  Findings* findings_;
};

}  // namespace muster
