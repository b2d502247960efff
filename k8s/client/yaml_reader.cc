#include "k8s/client/yaml_reader.h"

#include <set>
#include <utility>

namespace muster::k8s {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 32;        // of what Json() converts
constexpr int kMaxNodes = 10'000;    // also stops aliases that multiply
constexpr int kMaxNesting = 200;     // yaml-cpp gives up at 500 with the message "bad file"
constexpr size_t kMaxFlow = 10'000;  // brackets in the text

std::string PlaceText(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) return file;
  return fmt::format("{}:{}:{}", file, mark.line + 1, mark.column + 1);
}

// Nesting is recursion in yaml-cpp, so that what no configuration has is refused before it is parsed.
bool IsNestedTooDeeply(std::string_view text) {
  int depth = 0;
  size_t brackets = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') {
      if (++depth > kMaxNesting || ++brackets > kMaxFlow) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

json ScalarAsJson(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "true" || text == "false") return text == "true";
  // What JSON calls a number is one; everything else (010, 0x1f, 1_000) stays the text it is.
  const json number = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return number.is_number() ? number : json(text);
}

// False if it is too deep or too large.
bool AsJson(const YAML::Node& node, int depth, int* nodes_left, json* result) {
  if (depth > kMaxDepth || --*nodes_left < 0) return false;
  if (node.IsSequence()) {
    *result = json::array();
    for (const auto& element : node) {
      if (!AsJson(element, depth + 1, nodes_left, &result->emplace_back())) return false;
    }
  } else if (node.IsMap()) {
    *result = json::object();
    for (const auto& field : node) {
      if (!field.first.IsScalar() ||
          !AsJson(field.second, depth + 1, nodes_left, &(*result)[field.first.Scalar()])) {
        return false;
      }
    }
  } else if (node.IsScalar()) {
    *result = ScalarAsJson(node);
  }
  return true;
}

}  // namespace

Result<YamlReader> YamlReader::Parse(std::string_view text, const std::string& file) {
  const std::string hint = "correct the file, or name another one";
  if (IsNestedTooDeeply(text)) {
    return WithHint(Err(Code::kInvalidArgument, "{}: nested too deeply", file), hint);
  }
  try {
    YAML::Node node = YAML::Load(std::string(text));
    if (!node.IsDefined() || node.IsNull()) node = YAML::Node(YAML::NodeType::Map);
    if (!node.IsMap()) {
      return WithHint(Err(Code::kInvalidArgument, "{}: this is no mapping of names to values",
                          PlaceText(file, node.Mark())),
                      hint);
    }
    return YamlReader(node, std::make_shared<Document>(Document{file, std::nullopt}));
  } catch (const YAML::Exception& e) {
    return WithHint(Err(Code::kInvalidArgument, "{}: {}", PlaceText(file, e.mark), e.msg), hint);
  }
}

YamlReader::YamlReader(const YAML::Node& node, std::shared_ptr<Document> document)
    : node_(node), document_(std::move(document)) {
  RefuseDuplicateKeys();
}

void YamlReader::RefuseDuplicateKeys() const {
  std::set<std::string> seen;
  for (const auto& field : node_) {
    const YAML::Node& key = field.first;
    if (key.IsScalar() && !seen.insert(key.Scalar()).second) {
      ComplainAt(key, fmt::format("\"{}\" is here twice", key.Scalar()), "remove one of them");
    }
  }
}

YAML::Node YamlReader::Field(const char* key) const {
  // Not node_[key]: that of a node that is not const inserts.
  for (const auto& field : node_) {
    if (field.first.IsScalar() && field.first.Scalar() == key) return field.second;
  }
  return YAML::Node(YAML::NodeType::Null);
}

std::string YamlReader::Place(const YAML::Node& node) const {
  return PlaceText(document_->file, node.Mark());
}

std::string YamlReader::Where(const char* key) const {
  return key != nullptr && Has(key) ? Place(Field(key)) : Place(node_);
}

bool YamlReader::Has(const char* key) const { return !Field(key).IsNull(); }

std::string YamlReader::String(const char* key) const {
  const YAML::Node field = Field(key);
  if (field.IsNull()) return "";
  if (field.IsScalar()) return field.Scalar();
  ComplainAt(field, fmt::format("\"{}\" must be a string", key), "");
  return "";
}

bool YamlReader::Bool(const char* key, bool otherwise) const {
  const YAML::Node field = Field(key);
  if (field.IsNull()) return otherwise;
  if (field.IsScalar() && field.Scalar() == "true") return true;
  if (field.IsScalar() && field.Scalar() == "false") return false;
  ComplainAt(field, fmt::format("\"{}\" must be true or false", key), "");
  return otherwise;
}

YamlReader YamlReader::Map(const char* key) const {
  const YAML::Node field = Field(key);
  if (field.IsMap()) return YamlReader(field, document_);
  if (!field.IsNull()) ComplainAt(field, fmt::format("\"{}\" must be a mapping", key), "");
  return YamlReader(YAML::Node(YAML::NodeType::Map), document_);
}

std::vector<YamlReader> YamlReader::Maps(const char* key) const {
  std::vector<YamlReader> maps;
  const YAML::Node field = Field(key);
  if (!field.IsNull() && !field.IsSequence()) {
    ComplainAt(field, fmt::format("\"{}\" must be a list", key), "");
    return maps;
  }
  for (const auto& element : field) {
    if (element.IsMap()) {
      maps.push_back(YamlReader(element, document_));
    } else {
      ComplainAt(element, fmt::format("\"{}\" must be a list of mappings", key), "");
    }
  }
  return maps;
}

std::vector<std::string> YamlReader::Strings(const char* key) const {
  std::vector<std::string> strings;
  const YAML::Node field = Field(key);
  if (!field.IsNull() && !field.IsSequence()) {
    ComplainAt(field, fmt::format("\"{}\" must be a list", key), "");
    return strings;
  }
  for (const auto& element : field) {
    if (element.IsScalar()) {
      strings.push_back(element.Scalar());
    } else {
      ComplainAt(element, fmt::format("\"{}\" must be a list of strings", key), "");
    }
  }
  return strings;
}

std::optional<json> YamlReader::Json(const char* key) const {
  const YAML::Node field = Field(key);
  if (field.IsNull()) return std::nullopt;
  json result;
  int nodes_left = kMaxNodes;
  if (AsJson(field, 0, &nodes_left, &result)) return result;
  ComplainAt(field, fmt::format("\"{}\" is nested too deeply, or too large", key), "");
  return std::nullopt;
}

void YamlReader::Complain(const char* key, const std::string& what, const std::string& hint) const {
  ComplainAt(Has(key) ? Field(key) : node_, what, hint);
}

void YamlReader::ComplainAt(const YAML::Node& node, const std::string& what,
                            const std::string& hint) const {
  if (document_->error) return;
  document_->error = Error{Code::kInvalidArgument, fmt::format("{}: {}", Place(node), what),
                           hint.empty() ? "correct the file, or name another one" : hint};
}

Status YamlReader::error() const {
  if (document_->error) return tl::unexpected<Error>(*document_->error);
  return {};
}

}  // namespace muster::k8s
