// Scalars: what the text of a scalar means, by rules of our own. The key decides the type, never the look of the value: where text is
// wanted, `no`, 010 and 1e3 are the letters that are written; where a number is wanted, only decimal digits are one.
//
// Threading: pure functions. The errors are kInvalidArgument and continue a sentence that begins with the key: "is 0x10, ...".
#pragma once

#include <cstdint>
#include <string>

#include "launcher/job/job.h"
#include "launcher/jobfile/document.h"
#include "runtime/base/status.h"

namespace muster {

// A whole number from `low` to `high` in decimal digits without leading zeros, quotes, sign, exponent or separators.
Result<int64_t> ReadWholeNumber(const DocumentNode& node, int64_t low, int64_t high);

// `true` or `false`, without quotes.
Result<bool> ReadSwitch(const DocumentNode& node);

// The text as it is written; plain or quoted makes no difference. Errors: nothing there, a list or mapping, a NUL, too long.
Result<std::string> ReadText(const DocumentNode& node);

// "4" or "2:8", plain or quoted; the minimum may be as low as `lowest`.
Result<WorkerRange> ReadWorkers(const DocumentNode& node, int lowest);

// The node as a message shows it: `"text"`, `a list`, `nothing`; shortened.
std::string Shown(const DocumentNode& node);

}  // namespace muster
