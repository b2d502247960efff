// Status JSON: the objects that operators see (command line contract): status, events, progress, and the final result.
//
// Every text is valid UTF-8, whatever went in; numbers that are not finite become null; no object contains a line break.
//
// Threading: pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "launcher/rendezvous/coordinator.h"

namespace muster {

using WallTime = std::chrono::system_clock::time_point;

// What is known of a job outside its coordinator core.
struct JobIdentity {
  std::string name;
  std::string platform = "local";
};

// "2026-03-01T12:34:56.789Z"
std::string Rfc3339(WallTime time);

// The object of `launcher status -o json`: name, platform, phase, generation, step, total_steps, world_size, min_workers,
// max_workers, loss, samples_per_second, samples_consumed, workers [{id, rank, pid, host, device, state, step_seconds}], message; and
// platform_status if `platform_status`, a JSON object, is not empty.
std::string StatusJson(const JobIdentity& job, const JobStatus& status,
                       const std::string& platform_status = "");

// {"event":"progress", ...}: the status without name, platform and workers. Live watchers get it; it is not stored.
std::string ProgressJson(const JobStatus& status);

// A stored event: sequence, time, generation, kind, message; for a membership change also cause, members_before, members_after,
// step, detect_ms, agree_ms, connect_ms, state_ms, resume_ms, steps_redone. "sequence" comes first.
std::string EventJson(uint64_t sequence, WallTime time, const EmitEvent& event);

// The sequence of such a line; 0 if it is none.
uint64_t EventSequence(std::string_view line);

// {"event":"finished", phase, step, loss, weights, samples_consumed, generations, seconds, metrics, misses, exit_code, message,
// failed_worker, last_output}. Without a result, step, loss and samples_consumed are those of `status`, and weights is null.
std::string FinishedJson(const FinishJob& finish, const JobStatus& status, uint64_t generations,
                         double seconds);

}  // namespace muster
