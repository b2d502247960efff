#include "launcher/jobfile/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/job/job.h"
#include "runtime/base/check.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;
using Kind = Field::Kind;

constexpr int64_t kMostSteps = 1'000'000'000'000;
constexpr int64_t kDayMs = 86'400'000;

std::vector<Field> MakeFields() {
  return {
      {.path = "name",
       .standard = "the program's name with a suffix",
       .help = "the job's name: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"},
      {.path = "platform",
       .kind = Kind::kChoice,
       .standard = "local",
       .help = "where to run: this machine or a cluster",
       .choices = {"local", "kubernetes"}},
      {.path = "program",
       .kind = Kind::kSection,
       .help = "what to run; `-- PROGRAM ARGS...` on the command line replaces all of it"},
      {.path = "program.path",
       .help = "the program; without a slash it is looked up in PATH, then beside the launcher",
       .required = true},
      {.path = "program.args",
       .kind = Kind::kTexts,
       .standard = "[]",
       .help = "its arguments, verbatim"},
      {.path = "image",
       .help = "container image of the workers; program.path is then a path in it",
       .kubernetes = true},
      {.path = "environment",
       .kind = Kind::kNames,
       .standard = "{}",
       .help = "environment variables of the workers, over those of the launcher; no secrets"},
      {.path = "workers",
       .kind = Kind::kWorkers,
       .standard = "one a core, at most 4",
       .help = "how many workers; use either this or pools",
       .low = 1},
      {.path = "pools",
       .kind = Kind::kPools,
       .help =
           "kinds of machines, the preferred first; on this machine their workers are added up"},
      {.path = "pools.name",
       .help = "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends; each once",
       .required = true},
      {.path = "pools.workers",
       .kind = Kind::kWorkers,
       .help = "workers of this pool; the minimum may be 0",
       .low = 0,
       .required = true},
      {.path = "pools.device",
       .kind = Kind::kSection,
       .help = "what a worker computes on; `device: gpu` is short for a mapping with kind",
       .choices = {"cpu", "gpu"}},
      {.path = "pools.device.kind",
       .kind = Kind::kChoice,
       .standard = "cpu",
       .help = "gpu needs --platform kubernetes",
       .choices = {"cpu", "gpu"}},
      {.path = "pools.device.count",
       .kind = Kind::kNumber,
       .standard = "1",
       .help = "devices of one pod, each with a worker; divides the pool's workers",
       .low = 1,
       .high = 64},
      {.path = "pools.instance_types",
       .kind = Kind::kTexts,
       .standard = "any",
       .help = "machine types to run on (label node.kubernetes.io/instance-type)",
       .kubernetes = true},
      {.path = "pools.node_selector",
       .kind = Kind::kNames,
       .standard = "{}",
       .help = "labels that a node must have",
       .kubernetes = true},
      {.path = "pools.capacity",
       .kind = Kind::kChoice,
       .standard = "any",
       .help = "spot: cheap and may be reclaimed",
       .choices = {"on-demand", "spot", "any"},
       .kubernetes = true},
      {.path = "pools.priority_class",
       .help = "PriorityClass of the pods; it must exist",
       .kubernetes = true},
      {.path = "pools.growth",
       .kind = Kind::kGrowth,
       .standard = "max",
       .help = "pods that wait for machines: all at once, K at a time, or only on idle machines "
               "(needs priority_class)",
       .kubernetes = true},
      {.path = "pools.drain",
       .kind = Kind::kChoice,
       .standard = "allow",
       .help = "whether autoscalers may empty a node with a worker on it",
       .choices = {"allow", "avoid"},
       .kubernetes = true},
      {.path = "pools.resources",
       .kind = Kind::kSection,
       .help = "what each worker asks for",
       .kubernetes = true},
      {.path = "pools.resources.cpu", .help = "cores: 4, 0.5 or 500m", .kubernetes = true},
      {.path = "pools.resources.memory", .help = "bytes: 512Mi, 8Gi or 1G", .kubernetes = true},
      {.path = "collectives",
       .kind = Kind::kChoice,
       .standard = "auto",
       .help = "how gradients are summed; auto: by nccl between GPUs, if it is installed; mpi is "
               "not in this version",
       .choices = {"auto", "host", "nccl", "mpi"}},
      {.path = "device",
       .standard = "auto",
       .help = "what workers compute on: auto, cpu, cuda or cuda:N; auto: a GPU, if there is one "
               "and the program can"},
      {.path = "reduce",
       .kind = Kind::kChoice,
       .standard = "exact",
       .help = "exact: same bits for any number of workers",
       .choices = {"exact", "float"}},
      {.path = "checkpoint", .kind = Kind::kSection, .help = "keep checkpoints"},
      {.path = "checkpoint.dir", .help = "the folder", .required = true},
      {.path = "checkpoint.every_steps",
       .kind = Kind::kNumber,
       .standard = "100",
       .help = "steps between checkpoints",
       .low = 1,
       .high = kMostSteps},
      {.path = "checkpoint.resume",
       .kind = Kind::kSwitch,
       .standard = "false",
       .help = "start from the newest checkpoint in dir"},
      {.path = "heartbeat_timeout_ms",
       .kind = Kind::kNumber,
       .standard = "3000",
       .help = "silence after which a worker is evicted; a third of it is enough if its peers miss "
               "it too",
       .low = 100,
       .high = 600'000},
      {.path = "step_timeout_ms",
       .kind = Kind::kNumber,
       .standard = "60000",
       .help = "longest step of a worker; where others wait, ten times the longest so far (15 s at "
               "least) if that is less",
       .low = 100,
       .high = kDayMs},
      {.path = "start_timeout_ms",
       .kind = Kind::kNumber,
       .standard = "60000",
       .help = "longest wait for enough workers",
       .low = 100,
       .high = kDayMs},
      {.path = "files",
       .kind = Kind::kTexts,
       .standard = "[]",
       .help = "files and folders that the program needs; sent along to a cluster, on this machine "
               "they must be there"},
  };
}

std::string_view ParentOf(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == path.npos ? "" : path.substr(0, dot);
}

std::string_view KeyOf(std::string_view path) { return path.substr(path.rfind('.') + 1); }

Json SectionSchema(std::string_view path);

Json TypeSchema(const Field& field) {
  const Json text = {{"type", Json::array({"string", "number", "boolean"})}};
  switch (field.kind) {
    case Kind::kText:
      return text;
    case Kind::kNumber:
      return {{"type", "integer"}, {"minimum", field.low}, {"maximum", field.high}};
    case Kind::kSwitch:
      return {{"type", "boolean"}};
    case Kind::kChoice:
      return {{"enum", field.choices}};
    case Kind::kWorkers:
      return {{"anyOf",
               {{{"type", "integer"}, {"minimum", field.low}, {"maximum", kMaxWorkers}},
                {{"type", "string"}, {"pattern", "^[0-9]+(:[0-9]+)?$"}}}}};
    case Kind::kGrowth:
      return {{"type", "string"}, {"pattern", "^(max|step [1-9][0-9]*|opportunistic)$"}};
    case Kind::kTexts:
      return {{"type", "array"}, {"items", text}};
    case Kind::kNames:
      return {{"type", "object"}, {"additionalProperties", text}};
    case Kind::kSection:
      if (!field.choices.empty()) {
        return {{"anyOf", {SectionSchema(field.path), {{"enum", field.choices}}}}};
      }
      return SectionSchema(field.path);
    case Kind::kPools:
      return {{"type", "array"}, {"items", SectionSchema(field.path)}, {"minItems", 1}};
  }
  return {};
}

Json SectionSchema(std::string_view path) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const Field& field : JobFileFields()) {
    if (ParentOf(field.path) != path) continue;
    Json schema = TypeSchema(field);
    schema["description"] = field.help;
    properties[std::string(KeyOf(field.path))] = std::move(schema);
    if (field.required) required.push_back(KeyOf(field.path));
  }
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", std::move(required)},
          {"additionalProperties", false}};
}

}  // namespace

std::span<const Field> JobFileFields() {
  static const std::vector<Field> fields = MakeFields();
  return fields;
}

const Field& FieldOf(std::string_view path) {
  const auto fields = JobFileFields();
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const Field& field) { return field.path == path; });
  MUSTER_CHECK(found != fields.end(), "no row of the schema: {}", path);
  return *found;
}

std::vector<std::string> KeysOf(std::string_view path) {
  std::vector<std::string> keys;
  for (const Field& field : JobFileFields()) {
    if (ParentOf(field.path) == path) keys.emplace_back(KeyOf(field.path));
  }
  return keys;
}

std::string TypeText(const Field& field) {
  switch (field.kind) {
    case Kind::kText:
      return "text";
    case Kind::kNumber:
      return fmt::format("number from {} to {}", field.low, field.high);
    case Kind::kSwitch:
      return "true or false";
    case Kind::kChoice:
      return fmt::format("one of {}", fmt::join(field.choices, ", "));
    case Kind::kWorkers:
      return fmt::format("N or MIN:MAX, {} to {}", field.low, kMaxWorkers);
    case Kind::kGrowth:
      return "max, step K or opportunistic";
    case Kind::kTexts:
      return "list of texts";
    case Kind::kNames:
      return "mapping of names to texts";
    case Kind::kSection:
      return field.choices.empty()
                 ? "mapping"
                 : fmt::format("mapping, or one of {}", fmt::join(field.choices, ", "));
    case Kind::kPools:
      return "list of mappings";
  }
  return "";
}

std::string JsonSchema() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Muster job file"}};
  schema.update(SectionSchema(""));
  return schema.dump(2) + "\n";
}

}  // namespace muster
