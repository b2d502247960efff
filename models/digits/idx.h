// IDX: the binary format of MNIST (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"): a magic
// number, the extents as big-endian 32-bit numbers, then the bytes, last dimension fastest.
//
// Threading: free functions, safe from any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "models/digits/samples.h"
#include "runtime/base/status.h"

namespace muster {

struct IdxImages {
  std::vector<float> pixels;  // count x width, scaled from 0..255 to [0, 1]
  int64_t count = 0;
  int64_t width = 0;  // rows x columns
};

// Parse the whole content of a file. `name` is the file's name in messages.
// Errors: kDataLoss, naming file, offset and what was expected; a compressed file is recognized and the hint says so.
Result<IdxImages> ParseIdxImages(std::string_view bytes, std::string_view name);
Result<std::vector<int32_t>> ParseIdxLabels(std::string_view bytes, std::string_view name);

// Images with their labels. Errors: kDataLoss if their counts differ.
Result<Samples> JoinIdx(IdxImages images, std::string_view images_name, std::vector<int32_t> labels,
                        std::string_view labels_name);

}  // namespace muster
