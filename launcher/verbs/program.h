// Program: finds the program of a job and makes sure that it can be started, before anything of the job is.
//
// Threading: free functions.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/base/status.h"

namespace muster {

// The absolute path of the program that `word` names: a path if it has a slash, else looked up in `search_path` ("/bin:/usr/bin")
// and then in `own_folder`, where the launcher's example programs lie. Errors: kNotFound, kPermissionDenied (not
// executable), kInvalidArgument (a folder, or no program for this machine), each with a hint on what to do.
Result<std::filesystem::path> FindProgram(const std::string& word, const std::string& search_path,
                                          const std::filesystem::path& own_folder);

}  // namespace muster
