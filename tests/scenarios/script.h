// Script: plays a file of commands and what must come of them, in blocks:
//
//   # what this shows
//   kill w-3
//   deliver
//   ----
//   w-3: process 1 is killed by signal 9
//   ...
//
// The commands are listed in README.md. A block ends with an empty line; a block that says nothing says "ok".
//
// Threading: none.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/scenarios/world.h"

namespace muster::scenario {

class Script {
 public:
  // Plays `text` and returns it with what happened in the place of what was expected.
  std::string Play(const std::string& text);

  // What was wrong with the protocol itself, whatever the file expects.
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  using Words = std::vector<std::string>;
  using Options = std::map<std::string, std::string>;

  std::string Run(const std::string& line);
  std::string Dispatch(const std::string& name, const Words& words, const Options& options);
  std::string RunOnWorkers(const std::string& name, const Words& words, const Options& options);
  std::string Job(const Options& options);
  void Advance(Duration time);
  void Step();
  std::string Finish();
  std::string Workers();
  CoordinatorEvent Event(const Words& words, const Options& options) const;

  std::unique_ptr<World> world_;
  std::vector<std::string> violations_;
};

}  // namespace muster::scenario
