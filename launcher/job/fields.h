// Fields: reads JSON that another process wrote, without exceptions.
//
// Threading: free functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

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

}  // namespace muster
