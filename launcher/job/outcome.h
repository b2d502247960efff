// Outcome: what a `launcher run` tells while it follows a job, and how the end of a job is kept in its folder.
//
// Threading: free functions; one process at a time writes the end of a job (the one that holds its lock).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launcher/job/job.h"
#include "runtime/base/status.h"

namespace muster {

class JobObserver {
 public:
  virtual ~JobObserver() = default;
  // An event of the coordinator, a JSON object in one line; `finished` is not among them.
  virtual void OnEvent(const std::string& event) = 0;
  // Something for the user: a signal was taken, a process of the launcher died.
  virtual void OnNote(const std::string& text) = 0;
};

// Makes `line` the whole of a file; what cannot be written is logged.
void WriteOrWarn(const std::filesystem::path& path, const std::string& line);

// `status` as it is once the job has ended so: nobody trains any more. A pure function.
nlohmann::json FinalStatus(nlohmann::json status, const std::string& phase,
                           const std::string& message);

// The result of a job whose coordinator could not write one, from its last status: phase `phase` and `message`. Written to
// result.json and status.json as well.
std::string WriteSubstituteResult(const JobFolder& folder, const JobSpec& spec,
                                  const std::string& phase, int exit_code,
                                  const std::string& message);

}  // namespace muster
