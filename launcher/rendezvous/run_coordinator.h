// RunCoordinator: the coordinator process of a job folder (launcher/job/job.h), from reading its files to the end of the job.
//
// Threading: call it from main, before other threads exist; it blocks signals for those it starts.
#pragma once

#include <filesystem>

namespace muster {

// Serves the job until it has ended and everybody has been told (workers and agents get 2 s to disconnect), or until SIGTERM:
// then the job goes on with the next coordinator, which finds everything in the folder. SIGINT and SIGHUP are ignored: whoever
// started the job decides. Returns the exit code of the process: 0, or 1 if it cannot serve (another coordinator runs, a file
// cannot be read, no port), with the reason in the log. A folder that has its result already is left alone: 0.
int RunCoordinator(const std::filesystem::path& job_folder);

}  // namespace muster
