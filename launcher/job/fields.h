// Fields: reads JSON that another process wrote, and tells what can be written. A number that is a fraction, or that needs more than
// 64 bits, is no integer: nlohmann would convert it all the same, which is undefined where it does not fit.
//
// Threading: free functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>

namespace muster {

// Parses a file of ours, in which every number is an integer. Throws json::exception where it is no JSON, or a number is none.
inline nlohmann::json ParseIntegerJson(std::string_view text) {
  using nlohmann::json;
  return json::parse(text, [](int, json::parse_event_t, const json& value) {
    if (value.is_number_float()) {
      throw json::other_error::create(501, value.dump() + " is no integer of 64 bits", nullptr);
    }
    return true;
  });
}

// The field `name` of `object`, or `otherwise` if it is missing, null or of another type. Json is any nlohmann JSON type.
template <typename T, typename Json>
T FieldOr(const Json& object, const char* name, T otherwise) {
  if (!object.is_object()) return otherwise;
  const auto field = object.find(name);
  if (field == object.end()) return otherwise;
  if (std::is_integral_v<T> && field->is_number_float()) return otherwise;
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
