#include "launcher/verbs/origins.h"

#include "launcher/verbs/text.h"

namespace muster {
namespace {

std::string RangeText(const WorkerRange& workers) {
  return workers.min == workers.max ? fmt::format("{}", workers.max)
                                    : fmt::format("{}:{}", workers.min, workers.max);
}

template <typename T>
std::string TextOf(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : "";
}

// What the file says of `place`, as it would be written.
std::string InFile(const JobFile& file, const std::string& place) {
  const CheckpointRequest checkpoint = file.checkpoint.value_or(CheckpointRequest{});
  if (place == "name") return TextOf(file.name);
  if (place == "workers" || place == "pools") {
    return file.TotalWorkers() ? RangeText(*file.TotalWorkers()) : "";
  }
  if (place == "program") {
    std::vector<std::string> words{file.program->path};
    words.insert(words.end(), file.program->args.begin(), file.program->args.end());
    return ShellQuote(words);
  }
  if (place == "collectives") return TextOf(file.collectives);
  if (place == "device") return TextOf(file.device);
  if (place == "reduce") return TextOf(file.reduce);
  if (place == "checkpoint.dir") return checkpoint.dir;
  if (place == "checkpoint.every_steps") return TextOf(checkpoint.every_steps);
  if (place == "checkpoint.resume") return TextOf(checkpoint.resume);
  if (place == "heartbeat_timeout_ms") return TextOf(file.heartbeat_timeout_ms);
  if (place == "step_timeout_ms") return TextOf(file.step_timeout_ms);
  if (place == "start_timeout_ms") return TextOf(file.start_timeout_ms);
  return TextOf(file.platform);
}

}  // namespace

std::vector<Origin> Origins(const Request& request, const JobSpec& spec,
                            const std::string& platform) {
  struct Row {
    std::string place;
    std::string flag;  // empty: the program, which has none
    std::string value;
  };
  const std::string workers = request.HasPlace("pools") ? "pools" : "workers";
  std::vector<Row> rows = {
      {"name", "name", spec.name},
      {"platform", "platform", platform},
      {"program", "", ShellQuote(spec.argv)},
      {workers, "workers", RangeText({spec.min_workers, spec.max_workers})},
      {"collectives", "collectives", spec.collectives},
      {"device", "device", spec.device},
      {"reduce", "reduce", spec.reduce},
  };
  if (!spec.checkpoint.empty()) {
    rows.push_back({"checkpoint.dir", "checkpoint", spec.checkpoint.string()});
    rows.push_back(
        {"checkpoint.every_steps", "checkpoint-every", fmt::format("{}", spec.checkpoint_every)});
    rows.push_back({"checkpoint.resume", "resume", fmt::format("{}", spec.resume)});
  }
  rows.push_back({"heartbeat_timeout_ms", "heartbeat-timeout-ms",
                  fmt::format("{}", spec.heartbeat_timeout_ms)});
  rows.push_back({"step_timeout_ms", "step-timeout-ms", fmt::format("{}", spec.step_timeout_ms)});
  rows.push_back(
      {"start_timeout_ms", "start-timeout-ms", fmt::format("{}", spec.start_timeout_ms)});

  std::vector<Origin> origins;
  for (const Row& row : rows) {
    const bool flag = row.flag.empty() ? request.flags().has_program : request.HasFlag(row.flag);
    const bool place = request.HasPlace(row.place);
    origins.push_back({.key = row.place,
                       .value = row.value,
                       .from = flag    ? (row.flag.empty() ? "-- PROGRAM" : "--" + row.flag)
                               : place ? request.PlaceText(row.place)
                                       : "default",
                       .overrides = flag && place ? InFile(request.file(), row.place) : ""});
  }
  return origins;
}

}  // namespace muster
