// Yaml: JSON values as YAML that people can read and that every parser, of YAML 1.1 or 1.2, reads back as the same values.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace muster::kubernetes {

// A document without its `---`, ending in a newline. `value` holds no fractions and its texts are UTF-8.
std::string ToYaml(const nlohmann::ordered_json& value);

}  // namespace muster::kubernetes
