#include "k8s/client/json_fields.h"

namespace muster::k8s {

using nlohmann::json;

namespace {

bool IsNestedTooDeeply(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

const json& At(const json& object, std::initializer_list<const char*> names) {
  static const json kNull;
  const json* value = &object;
  for (const char* name : names) {
    if (!value->is_object()) return kNull;
    const auto found = value->find(name);
    if (found == value->end()) return kNull;
    value = &*found;
  }
  return *value;
}

std::string StringAt(const json& object, std::initializer_list<const char*> names) {
  const json& value = At(object, names);
  return value.is_string() ? value.get_ref<const std::string&>() : std::string();
}

int64_t IntegerAt(const json& object, std::initializer_list<const char*> names, int64_t otherwise) {
  const json& value = At(object, names);
  return value.is_number_integer() ? value.get<int64_t>() : otherwise;
}

Result<std::string> ToText(const json& value) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    return Err(Code::kInvalidArgument, "a string that goes to the API server is not UTF-8");
  }
}

Result<json> FromText(std::string_view text, std::string_view what) {
  const char* hint = "is server in the kubeconfig an API server, or is a proxy in between?";
  if (IsNestedTooDeeply(text)) {
    return WithHint(
        Err(Code::kDataLoss, "{}: the answer is nested deeper than {} levels", what, kMaxJsonDepth),
        hint);
  }
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_discarded()) return value;
  return WithHint(Err(Code::kDataLoss, "{}: the answer is no JSON ({} bytes)", what, text.size()),
                  hint);
}

}  // namespace muster::k8s
