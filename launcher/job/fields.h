// Fields: reads JSON that another process wrote, and tells what can be written, without exceptions.
//
// Threading: free functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace muster {

// The field `name` of `object`, or `otherwise` if it is missing, null or of another type. Json is any nlohmann JSON type.
template <typename T, typename Json>
T FieldOr(const Json& object, const char* name, T otherwise) {
  if (!object.is_object()) return otherwise;
  const auto field = object.find(name);
  if (field == object.end()) return otherwise;
  try {
    return field->template get<T>();
  } catch (const nlohmann::json::exception&) {
    return otherwise;
  }
}

// Whether JSON can keep `text` as it is: whether it is UTF-8.
inline bool FitsIntoJson(std::string_view text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace muster
