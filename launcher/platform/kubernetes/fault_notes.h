// FaultNotes: makes of many failures of requests the few sentences that people need: one when a fault begins, one when it is over. Pure.
//
// Requests are told apart by what they are for ("list", "create"). A fault begins with the first failure, and is over when they have
// worked again and none has failed for a while; what comes and goes quickly is one fault.
//
// Threading: a plain value.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/base/time.h"

namespace muster::kubernetes {

struct FaultNote {
  bool over = false;  // or it begins
  std::string message;
};

class FaultNotes {
 public:
  explicit FaultNotes(Duration quiet = std::chrono::seconds(10)) : quiet_(quiet) {}

  void Failed(const std::string& what, const std::string& why, TimePoint now);
  void Worked(const std::string& what, TimePoint now);

  // What is to be said by now. Come again at wake().
  std::vector<FaultNote> Take(TimePoint now);
  TimePoint wake() const;

  // What is wrong now, a sentence each.
  std::vector<std::string> Lasting() const;

 private:
  struct Fault {
    std::string why;  // the last failure
    TimePoint began_at;
    TimePoint failed_at;
    int failures = 0;
    bool works = false;  // since the last failure
  };

  const Duration quiet_;
  std::map<std::string, Fault> faults_;
  std::vector<FaultNote> notes_;
};

}  // namespace muster::kubernetes
