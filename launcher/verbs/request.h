// Request: what `run` and `plan` were asked for, by flags and by the job file that -f names. A flag wins over the file.
//
// Threading: none.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "launcher/jobfile/job_file.h"
#include "launcher/verbs/verb.h"
#include "runtime/base/status.h"

namespace muster {

class Request {
 public:
  // Reads the job file, if there is one. Errors: kInvalidArgument that names -f (no such file, not readable), or with all that is
  // wrong in the file, one `FILE:LINE:COLUMN: sentence` a line.
  static Result<Request> Create(const Invocation& invocation);

  const Invocation& flags() const { return flags_; }
  // Empty without -f.
  const JobFile& file() const { return file_; }
  // As it was typed; empty without -f.
  const std::string& file_name() const { return file_name_; }

  bool HasFlag(const std::string& flag) const { return flags_.Has(flag); }
  bool HasPlace(const std::string& place) const { return file_.places.contains(place); }

  // "job.yaml:3:10" of a value that the file gives ("pools[0].device").
  std::string PlaceText(const std::string& place) const;
  // How a message calls a value: "--checkpoint", else "job.yaml:3:10: checkpoint.dir".
  std::string NameOf(const std::string& flag, const std::string& place) const;
  // A path that the file names, absolute: it counts from the file's folder.
  std::filesystem::path Resolve(const std::string& path) const;
  // The file's folder, absolute; the current one without -f.
  const std::filesystem::path& folder() const { return folder_; }

  // All of `errors` as one, worded as those of Create.
  tl::unexpected<Error> Refuse(const std::vector<FileError>& errors,
                               Code code = Code::kInvalidArgument) const;

 private:
  explicit Request(Invocation flags) : flags_(std::move(flags)) {}

  Invocation flags_;
  JobFile file_;
  std::string file_name_;
  std::filesystem::path folder_;
};

}  // namespace muster
