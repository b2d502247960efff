// JsonFields: reads JSON of the server's without exceptions: what is missing or of another type reads as empty.
//
// Threading: free functions.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace muster::k8s {

// The value below `object` at the path `names`, or a null.
const nlohmann::json& At(const nlohmann::json& object, std::initializer_list<const char*> names);
std::string StringAt(const nlohmann::json& object, std::initializer_list<const char*> names);
int64_t IntegerAt(const nlohmann::json& object, std::initializer_list<const char*> names,
                  int64_t otherwise);

// The text of `value`. Errors: kInvalidArgument (a string in it is not UTF-8).
Result<std::string> ToText(const nlohmann::json& value);

// What is nested deeper than this is no answer of an API server's. Copying and writing JSON is recursion, which ends at the end of
// the stack.
inline constexpr int kMaxJsonDepth = 500;

// The JSON of `text`; nothing of the text is in the error, kDataLoss (no JSON, or too deep), which begins with `what`.
Result<nlohmann::json> FromText(std::string_view text, std::string_view what);

}  // namespace muster::k8s
