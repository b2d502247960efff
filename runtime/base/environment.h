// The environment variables that a child process is given.
//
// Threading: safe as long as nobody changes the environment.
#pragma once

#include <string>
#include <vector>

namespace muster {

// Our environment with the entries of `changes` ("NAME=value") replaced or added.
std::vector<std::string> EnvironmentWith(const std::vector<std::string>& changes);

}  // namespace muster
