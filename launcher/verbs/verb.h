// Verb: what `launcher` can do. Each verb is a row of one table (verbs.cc) with its options; parsing, help and the suggestions on
// typos all come from that row.
//
// Threading: none; main() calls these.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace muster {

struct OptionSpec {
  char letter = 0;       // 0: none
  std::string name;      // "workers"
  std::string argument;  // "N|MIN:MAX"; empty: a switch
  std::string help;
};

// A command line, taken apart by the verb's row.
class Invocation {
 public:
  bool Has(const std::string& option) const { return values_.contains(option); }
  // The value as typed; empty if the option was not given.
  std::string Get(const std::string& option) const {
    const auto found = values_.find(option);
    return found == values_.end() ? "" : found->second;
  }
  // All values of an option that may be repeated, in order.
  std::vector<std::string> All(const std::string& option) const {
    const auto found = repeated_.find(option);
    return found == repeated_.end() ? std::vector<std::string>{} : found->second;
  }
  bool json() const { return Get("output") == "json"; }

  std::vector<std::string> operands;  // before `--`
  std::vector<std::string> program;   // after `--`, verbatim
  bool has_program = false;           // `--` was there

 private:
  friend Result<Invocation> ParseInvocation(const struct Verb&, const std::vector<std::string>&);
  std::map<std::string, std::string> values_;  // the last one of each
  std::map<std::string, std::vector<std::string>> repeated_;
};

struct Verb {
  std::string name;
  std::string usage;    // what follows the verb's name: "JOB N|MIN:MAX"
  std::string summary;  // one line, for the overview
  std::string details;  // for the verb's own help: what it does, with examples
  std::vector<OptionSpec> options;
  size_t max_operands = 0;
  bool takes_program = false;  // `-- PROGRAM [ARGS...]`
  bool hidden = false;         // for the launcher's own processes
  // Returns the exit code. An error is printed, and its code decides the exit code (ExitCodeOf).
  Result<int> (*run)(const Invocation&) = nullptr;
};

const std::vector<Verb>& Verbs();

// Takes `arguments` (what follows the verb's name) apart. Errors: kInvalidArgument with what is wrong, a hint with the
// nearest option or the corrected command line.
Result<Invocation> ParseInvocation(const Verb& verb, const std::vector<std::string>& arguments);

// The help of one verb, and of the whole launcher.
std::string VerbHelp(const Verb& verb);
std::string Overview();

// The exit code of the command line contract for an error: 2 for what the user has to change, 1 for the rest.
int ExitCodeOf(Code code);

// main() without the process's set-up.
int RunLauncher(const std::vector<std::string>& arguments);

}  // namespace muster
