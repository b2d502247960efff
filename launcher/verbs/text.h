// Text: parsing of what users type and formatting of what they read.
//
// Threading: pure functions, except Print and PrintError.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/job/job.h"
#include "runtime/base/status.h"

namespace muster {

// "4" or "2:8". `what` names the value in the error. Errors: kInvalidArgument with the value and the range.
Result<WorkerRange> ParseWorkers(std::string_view what, const std::string& text);

// A whole decimal number from `low` to `high`, and nothing else. Errors: kInvalidArgument with name, value and range.
Result<int64_t> ParseNumber(std::string_view what, const std::string& text, int64_t low,
                            int64_t high);

// "0,3,5" as numbers. Errors: as ParseNumber.
Result<std::vector<int>> ParseNumberList(std::string_view what, const std::string& text);

// The parts of `text` between commas, without empty ones.
std::vector<std::string> SplitCommas(const std::string& text);

// A job name for a program: "digits-7f3a". `suffix` makes it unlike others.
std::string NameFor(const std::string& program, const std::string& suffix);

// The words as a command line that a shell takes apart in the same way.
std::string ShellQuote(const std::vector<std::string>& words);

// "4 workers", "1 worker", "2 to 8 workers".
std::string WorkersText(int min, int max);

// "0:07", "12:05", "3:04:05", "2d 03h".
std::string DurationText(double seconds);

// Columns, left-aligned, two spaces between them; no trailing spaces.
std::string Table(const std::vector<std::vector<std::string>>& rows);

// Writes to stdout. False once nobody reads it any more (a closed pipe, a full disk); never an error of the program.
bool Print(std::string_view text);
// Writes to stderr; what cannot be written is lost.
void PrintError(std::string_view text);

}  // namespace muster
