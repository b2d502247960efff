// Flags of a training program, as a pure function: what ParseTrainOptions() (train.h) does before it prints and exits.
//
// Threading: free functions, safe from any thread.
#pragma once

#include <span>
#include <string>

#include "runtime/base/status.h"
#include "runtime/train/train.h"

namespace muster {

// What a command line asked for.
struct TrainCommandLine {
  TrainOptions options;
  std::string help;  // not empty: the user asked for this text instead of training
};

// Parses `arguments` (the program's path first) over `defaults`. A flag may be given once, as "--flag VALUE" or
// "--flag=VALUE". Errors: kInvalidArgument with one sentence that names flag, range and value; an unknown flag
// names the one that was probably meant.
Result<TrainCommandLine> ParseTrainFlags(std::span<const char* const> arguments,
                                         const std::string& about, const TrainOptions& defaults);

}  // namespace muster
