// YamlReader: reads the fields of a YAML document by name and type, and remembers the first thing that is wrong with them, with
// its place. A strict layer above yaml-cpp, which keeps the first of two equal keys and reads `no` as false without a word.
//
// Threading: plain values; one thread at a time for a document and all readers of it. Ownership: the readers of one document
// share it and its error. No exception leaves it.
#pragma once

#include <yaml-cpp/yaml.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace muster::k8s {

class YamlReader {
 public:
  // The first document of `text`; `file` is what errors call it. Errors: kInvalidArgument, "FILE:LINE:COLUMN: what", if it is
  // not YAML or not a mapping. An empty document is an empty mapping.
  static Result<YamlReader> Parse(std::string_view text, const std::string& file);

  // The field as it is written ("010" stays "010"); empty if it is missing or null.
  std::string String(const char* key) const;
  // Only true and false are booleans. `otherwise` if it is missing or null.
  bool Bool(const char* key, bool otherwise) const;
  // Missing and null read as an empty mapping, or no elements.
  YamlReader Map(const char* key) const;
  std::vector<YamlReader> Maps(const char* key) const;
  std::vector<std::string> Strings(const char* key) const;
  // Whatever is there, as JSON: plain scalars get YAML's types, quoted ones are strings. Bounded in depth and size.
  std::optional<nlohmann::json> Json(const char* key) const;

  bool Has(const char* key) const;
  // "FILE:LINE:COLUMN" of the field, or of this mapping if the field is missing.
  std::string Where(const char* key = nullptr) const;

  // Records what is wrong with a field, unless something was wrong before.
  void Complain(const char* key, const std::string& what, const std::string& hint = "") const;

  // The first error of the whole document. Look here once, at the end: until then wrong fields read as missing.
  Status error() const;

 private:
  struct Document {
    std::string file;
    std::optional<Error> error;
  };
  YamlReader(const YAML::Node& node, std::shared_ptr<Document> document);

  YAML::Node Field(const char* key) const;
  void ComplainAt(const YAML::Node& node, const std::string& what, const std::string& hint) const;
  void RefuseDuplicateKeys() const;
  std::string Place(const YAML::Node& node) const;

  YAML::Node node_;
  std::shared_ptr<Document> document_;
};

}  // namespace muster::k8s
