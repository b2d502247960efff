#include "launcher/verbs/shipping.h"

#include <algorithm>

#include "launcher/verbs/text.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kProgramFolder = "bin/";

// "data/" and "./data" are "data".
std::string LandsAt(const std::string& named) {
  std::string path = fs::path(named).lexically_normal().generic_string();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

// What is wrong with a file that is named `named`, or nothing.
std::string WhyNot(const std::string& named, const fs::path& source, bool for_cluster) {
  std::error_code error;
  if (!fs::exists(source, error)) return fmt::format("{}, which is not there", source.string());
  if (!for_cluster) return "";
  const Status fits = CheckBundlePath(LandsAt(named));
  return fits ? "" : fmt::format("{}: {}", named, fits.error().message);
}

}  // namespace

Result<std::vector<BundleSource>> PlanFiles(const Request& request, bool for_cluster) {
  std::vector<BundleSource> sources;
  std::vector<FileError> errors;
  const auto& files = request.file().files;
  for (size_t i = 0; i < files.size(); ++i) {
    const fs::path source = request.Resolve(files[i]);
    const std::string place = fmt::format("files[{}]", i);
    const std::string why = WhyNot(files[i], source, for_cluster);
    if (!why.empty()) {
      errors.push_back({request.file().places.at(place), fmt::format("{} is {}", place, why)});
    }
    sources.push_back({source, LandsAt(files[i])});
  }
  if (!errors.empty()) return request.Refuse(errors);
  for (const std::string& named : request.flags().All("send")) {
    std::error_code error;
    const fs::path source = fs::absolute(named, error).lexically_normal();
    const std::string why = WhyNot(named, source, for_cluster);
    if (!why.empty()) return Err(Code::kInvalidArgument, "--send is {}", why);
    sources.push_back({source, LandsAt(named)});
  }
  // Named in the file and again on the command line.
  std::ranges::sort(sources, {}, &BundleSource::path);
  const auto twice = std::ranges::unique(sources);
  sources.erase(twice.begin(), twice.end());
  return sources;
}

std::string ProgramPath(const fs::path& program) {
  return std::string(kProgramFolder) + program.filename().string();
}

std::string WhatIsSent(const LocalBundle& bundle) {
  const auto& entries = bundle.manifest().entries();
  const auto program = std::ranges::find_if(entries, [](const ManifestEntry& entry) {
    return entry.executable && entry.path.starts_with(kProgramFolder);
  });
  const size_t others = entries.size() - (program == entries.end() ? 0 : 1);
  std::string text = program == entries.end() ? "" : program->path.substr(kProgramFolder.size());
  if (others > 0) {
    text += fmt::format("{}{} file{}", text.empty() ? "" : " and ", others, others == 1 ? "" : "s");
  }
  return fmt::format("{}, {}", text, BytesText(bundle.manifest().bytes()));
}

}  // namespace muster
