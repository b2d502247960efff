#include "launcher/verbs/request.h"

#include <utility>
#include <vector>

#include "launcher/job/suggest.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// The file beside `path` whose name is most like it.
std::string FileLike(const fs::path& path) {
  std::vector<std::string> names;
  std::error_code error;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (names.size() >= 10'000) break;
    names.push_back(entry.path().filename().string());
  }
  const auto near = Nearest(path.filename().string(), names);
  if (!near) return "give the path of the job file as seen from this folder";
  return fmt::format("did you mean {}?", (path.parent_path() / *near).string());
}

Result<std::string> ReadJobFile(const std::string& name) {
  std::error_code error;
  if (name.empty()) return Err(Code::kInvalidArgument, "-f is \"\", it must be a job file");
  if (!fs::exists(name, error)) {
    return WithHint(Err(Code::kInvalidArgument, "-f {}: no such file", name), FileLike(name));
  }
  if (fs::is_directory(name, error)) {
    return Err(Code::kInvalidArgument, "-f {}: this is a folder, it must be a job file", name);
  }
  auto text = ReadFile(name, kMaxJobFileBytes);
  if (!text) return Err(Code::kInvalidArgument, "-f {}: {}", name, text.error().message);
  return text;
}

}  // namespace

Result<Request> Request::Create(const Invocation& invocation) {
  Request request(invocation);
  std::error_code error;
  request.folder_ = fs::current_path(error);
  if (!invocation.Has("file")) return request;
  request.file_name_ = invocation.Get("file");
  MUSTER_ASSIGN(const std::string text, ReadJobFile(request.file_name_));
  auto job = ParseJobFile(text);
  if (!job) return request.Refuse(job.error());
  request.file_ = std::move(*job);
  request.folder_ = fs::absolute(request.file_name_, error).lexically_normal().parent_path();
  return request;
}

std::string Request::PlaceText(const std::string& place) const {
  const auto found = file_.places.find(place);
  if (found == file_.places.end()) return file_name_;
  return fmt::format("{}:{}:{}", file_name_, found->second.line, found->second.column);
}

std::string Request::NameOf(const std::string& flag, const std::string& place) const {
  if (HasFlag(flag) || !HasPlace(place)) return "--" + flag;
  return fmt::format("{}: {}", PlaceText(place), place);
}

fs::path Request::Resolve(const std::string& path) const {
  return (folder_ / path).lexically_normal();
}

tl::unexpected<Error> Request::Refuse(const std::vector<FileError>& errors, Code code) const {
  return Err(code, "{} has {}\n{}", file_name_,
             errors.size() == 1 ? "an error" : fmt::format("{} errors", errors.size()),
             FormatErrors(file_name_, errors));
}

}  // namespace muster
