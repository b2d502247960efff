// Keep: what of a run on a cluster stays in the job's folder on this machine: its events as they come, its status, its end.
//
// Threading: one thread at a time, of the process that holds the job's lock.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "launcher/job/job.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {

// events.jsonl, of which the coordinator's own file is the model.
class EventFile {
 public:
  explicit EventFile(const JobFolder& folder);

  uint64_t last_sequence() const { return last_sequence_; }  // 0: none yet

  // Adds the lines (one, or several) whose number is above the last one. What cannot be written is logged once and lost.
  void Add(const std::string& lines);

 private:
  const std::filesystem::path path_;
  uint64_t last_sequence_ = 0;
  bool works_ = true;
};

// Keeps the end: `finished` as result.json and `status`, the last that is known, as the final status.json. An empty or unreadable
// status is replaced by what the folder has.
void KeepEnd(const JobFolder& folder, const JobSpec& spec, const std::string& finished,
             const std::string& status);

// Keeps a status as status.json, while the run goes on.
void KeepStatus(const JobFolder& folder, const std::string& status);

}  // namespace muster::kubernetes
