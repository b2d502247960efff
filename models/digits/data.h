// Data: finds and loads the data set of `digits`.
//
// Threading: free functions, safe from any thread.
#pragma once

#include <filesystem>
#include <string_view>

#include "models/digits/samples.h"
#include "runtime/base/status.h"
#include "runtime/train/dataset.h"

namespace muster {

struct DigitData {
  MemoryDataset train;
  MemoryDataset test;  // images of the same width
};

// The UCI digits as CSV, built into the program (data/README.md).
std::string_view EmbeddedDigits();

// Loads `folder`: a digits.csv, of which a fixed fifth is held out for the test, or the four files of MNIST,
// unpacked. The built-in digits if `folder` is empty.
// Errors: kNotFound (no such folder or file), kPermissionDenied, kDataLoss (naming file and place).
Result<DigitData> LoadDigits(const std::filesystem::path& folder);

}  // namespace muster
