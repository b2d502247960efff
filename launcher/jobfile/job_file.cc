#include "launcher/jobfile/job_file.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <tuple>

#include "launcher/jobfile/reader.h"
#include "launcher/jobfile/schema.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

std::string RangeText(WorkerRange workers) {
  return workers.min == workers.max ? fmt::format("{}", workers.max)
                                    : fmt::format("{}:{}", workers.min, workers.max);
}

Json PoolJson(const Pool& pool) {
  Json object = {{"name", pool.name},
                 {"workers", RangeText(pool.workers)},
                 {"device", {{"kind", pool.gpu ? "gpu" : "cpu"}, {"count", pool.device_count}}}};
  if (!pool.instance_types.empty()) object["instance_types"] = pool.instance_types;
  if (!pool.node_selector.empty()) object["node_selector"] = pool.node_selector;
  if (pool.capacity != "any") object["capacity"] = pool.capacity;
  if (!pool.priority_class.empty()) object["priority_class"] = pool.priority_class;
  if (pool.growth != Growth{}) object["growth"] = GrowthText(pool.growth);
  if (!pool.drain) object["drain"] = "avoid";
  if (!pool.cpu.empty()) object["resources"]["cpu"] = pool.cpu;
  if (!pool.memory.empty()) object["resources"]["memory"] = pool.memory;
  return object;
}

template <typename T>
void Put(Json& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

// JSON may hold DEL and the C1 control characters as they are, a job file may not.
std::string Escaped(const std::string& json) {
  std::string text;
  for (size_t i = 0; i < json.size(); ++i) {
    const auto byte = static_cast<unsigned char>(json[i]);
    const auto next = static_cast<unsigned char>(i + 1 < json.size() ? json[i + 1] : 0);
    if (byte == 0x7F) {
      text += "\\u007f";
    } else if (byte == 0xC2 && next < 0xA0) {
      text += fmt::format("\\u{:04x}", next);
      ++i;
    } else {
      text += json[i];
    }
  }
  return text;
}

// "pools[1].device.kind" -> "pools.device.kind"
std::string RowPath(std::string_view place) {
  std::string path;
  for (size_t i = 0; i < place.size(); ++i) {
    if (place[i] == '[') i = place.find(']', i);
    if (i < place.size() && place[i] != ']') path += place[i];
  }
  return path;
}

// What may be said of a pool without asking for anything that only a cluster has.
bool IsNothingSpecial(const JobFile& job, const std::string& place) {
  constexpr std::string_view kPools = "pools[";
  if (!place.starts_with(kPools)) return false;
  size_t number = 0;
  std::from_chars(place.data() + kPools.size(), place.data() + place.size(), number);
  const Pool& pool = job.pools.at(number);
  const std::string path = RowPath(place);
  if (path == "pools.capacity") return pool.capacity == "any";
  if (path == "pools.growth") return pool.growth == Growth{};
  if (path == "pools.drain") return pool.drain;
  return path.starts_with("pools.device") && !pool.gpu;
}

bool IsForKubernetes(const std::string& place) {
  if (place.ends_with(']')) return false;  // its list says it
  const std::string path = RowPath(place);
  if (path == "pools.device.kind" || path == "pools.device") return true;
  // A key of a section that is for Kubernetes: the section says it.
  const size_t dot = path.rfind('.');
  if (dot != path.npos && FieldOf(path.substr(0, dot)).kubernetes) return false;
  return FieldOf(path).kubernetes;
}

}  // namespace

std::string GrowthText(const Growth& growth) {
  switch (growth.mode) {
    case Growth::Mode::kMax:
      return "max";
    case Growth::Mode::kStep:
      return fmt::format("step {}", growth.step);
    case Growth::Mode::kOpportunistic:
      return "opportunistic";
  }
  return "";
}

std::optional<WorkerRange> JobFile::TotalWorkers() const {
  if (pools.empty()) return workers;
  WorkerRange total{0, 0};
  for (const Pool& pool : pools) {
    total.min += pool.workers.min;
    total.max += pool.workers.max;
  }
  return total;
}

bool JobFile::operator==(const JobFile& other) const {
  const auto all = [](const JobFile& job) {
    return std::tie(job.name, job.platform, job.program, job.image, job.environment, job.workers,
                    job.pools, job.collectives, job.device, job.reduce, job.checkpoint,
                    job.heartbeat_timeout_ms, job.step_timeout_ms, job.start_timeout_ms, job.files);
  };
  return all(*this) == all(other);
}

tl::expected<JobFile, std::vector<FileError>> ParseJobFile(std::string_view text) {
  Document document = ReadDocument(text);
  Findings findings{.errors = std::move(document.errors)};
  JobFile job;
  // Of half a tree one would say that keys are missing which the file has.
  if (document.complete) job = ReadJob(document.root, findings);
  job.places = std::move(findings.places);
  if (findings.errors.empty()) return job;
  std::sort(findings.errors.begin(), findings.errors.end());
  return tl::unexpected(std::move(findings.errors));
}

std::vector<FileError> NeedsKubernetes(const JobFile& job) {
  std::vector<FileError> errors;
  for (const auto& [place, at] : job.places) {
    if (!IsForKubernetes(place) || IsNothingSpecial(job, place)) continue;
    if (job.places.contains(place + ".kind")) continue;  // which says it more exactly
    const bool device = RowPath(place).starts_with("pools.device");
    errors.push_back(
        {at, fmt::format("{}{} needs --platform kubernetes", place, device ? " gpu" : "")});
  }
  std::sort(errors.begin(), errors.end());
  return errors;
}

std::string ToJson(const JobFile& job) {
  Json object = Json::object();
  Put(object, "name", job.name);
  Put(object, "platform", job.platform);
  if (job.program) object["program"] = {{"path", job.program->path}, {"args", job.program->args}};
  Put(object, "image", job.image);
  if (!job.environment.empty()) object["environment"] = job.environment;
  if (job.workers) object["workers"] = RangeText(*job.workers);
  for (const Pool& pool : job.pools) object["pools"].push_back(PoolJson(pool));
  Put(object, "collectives", job.collectives);
  Put(object, "device", job.device);
  Put(object, "reduce", job.reduce);
  if (job.checkpoint) {
    Json& checkpoint = object["checkpoint"] = {{"dir", job.checkpoint->dir}};
    Put(checkpoint, "every_steps", job.checkpoint->every_steps);
    Put(checkpoint, "resume", job.checkpoint->resume);
  }
  Put(object, "heartbeat_timeout_ms", job.heartbeat_timeout_ms);
  Put(object, "step_timeout_ms", job.step_timeout_ms);
  Put(object, "start_timeout_ms", job.start_timeout_ms);
  if (!job.files.empty()) object["files"] = job.files;
  return Escaped(object.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

std::string FormatErrors(std::string_view file, const std::vector<FileError>& errors,
                         size_t limit) {
  std::string text;
  for (size_t i = 0; i < std::min(limit, errors.size()); ++i) {
    if (i > 0) text += '\n';
    text += fmt::format("{}:{}:{}: {}", file, errors[i].at.line, errors[i].at.column,
                        errors[i].message);
  }
  if (errors.size() > limit) text += fmt::format("\nand {} more errors", errors.size() - limit);
  return text;
}

}  // namespace muster
