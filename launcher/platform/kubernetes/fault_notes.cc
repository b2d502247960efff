#include "launcher/platform/kubernetes/fault_notes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::kubernetes {

void FaultNotes::Failed(const std::string& what, const std::string& why, TimePoint now) {
  const auto [found, begins] = faults_.try_emplace(what, Fault{.began_at = now});
  Fault& fault = found->second;
  fault.why = why;
  fault.failed_at = now;
  fault.works = false;
  ++fault.failures;
  if (begins) notes_.push_back({false, fmt::format("{}: {}", what, why)});
}

void FaultNotes::Worked(const std::string& what, TimePoint) {
  const auto found = faults_.find(what);
  if (found != faults_.end()) found->second.works = true;
}

std::vector<FaultNote> FaultNotes::Take(TimePoint now) {
  for (auto fault = faults_.begin(); fault != faults_.end();) {
    const auto& [what, about] = *fault;
    if (!about.works || now < about.failed_at + quiet_) {
      ++fault;
      continue;
    }
    notes_.push_back(
        {true, fmt::format("{}: works again, after {} failures in {:.0f} s; the last: {}", what,
                           about.failures, Seconds(about.failed_at - about.began_at), about.why)});
    fault = faults_.erase(fault);
  }
  return std::exchange(notes_, {});
}

TimePoint FaultNotes::wake() const {
  if (!notes_.empty()) return TimePoint::min();
  TimePoint wake = TimePoint::max();
  for (const auto& [what, fault] : faults_) {
    if (fault.works) wake = std::min(wake, fault.failed_at + quiet_);
  }
  return wake;
}

std::vector<std::string> FaultNotes::Lasting() const {
  std::vector<std::string> sentences;
  for (const auto& [what, fault] : faults_) {
    if (!fault.works) sentences.push_back(fmt::format("{}: {}", what, fault.why));
  }
  return sentences;
}

}  // namespace muster::kubernetes
