// Top: a job's status as a screen, its slowest workers first: they set the pace of all.
//
// Threading: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace muster {

struct ScreenSize {
  int rows = 0;  // 0: as many as it takes
  int columns = 120;
};

// At most size.rows lines of at most size.columns - 1 characters, of a status object and, if it is not empty, of why there is no newer one.
std::string TopScreen(const nlohmann::json& status, const std::string& trouble, ScreenSize size);

}  // namespace muster
