// Samples: labelled images as the loaders hand them on, pixels scaled to [0, 1].
//
// Threading: a plain value.
#pragma once

#include <cstdint>
#include <vector>

namespace muster {

constexpr int kDigitClasses = 10;

struct Samples {
  std::vector<float> pixels;    // count x width
  int64_t width = 0;            // pixels per image
  std::vector<int32_t> labels;  // count, each 0 to 9
};

}  // namespace muster
