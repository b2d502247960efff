// CSV: the text form of the UCI digits, one image a line: 64 pixels from 0 to 16 and the digit, separated by commas.
//
// Threading: a free function, safe from any thread.
#pragma once

#include <string_view>

#include "models/digits/samples.h"
#include "runtime/base/status.h"

namespace muster {

// Parses all lines of `text`; LF or CRLF ends them. `name` is the file's name in messages.
// Errors: kDataLoss, naming file, line, column of the row and what was expected.
Result<Samples> ParseDigitsCsv(std::string_view text, std::string_view name);

}  // namespace muster
