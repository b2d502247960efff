#include "launcher/rendezvous/status_json.h"

#include <fmt/chrono.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSequencePrefix = "{\"sequence\":";

// JSON has no NaN; a loss that diverged is null.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string Dump(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json WorkerObject(const WorkerStatus& worker) {
  return {{"id", worker.id},
          {"rank", worker.rank},
          {"pid", worker.pid},
          {"host", worker.host},
          {"device", worker.device},
          {"state", worker.state},
          {"step_seconds", Number(worker.step_seconds)}};
}

void AddFigures(Json& object, const JobStatus& status) {
  object["phase"] = PhaseName(status.phase);
  object["generation"] = status.generation;
  object["step"] = status.step;
  object["total_steps"] = status.total_steps;
  object["world_size"] = status.world_size;
  object["min_workers"] = status.min_workers;
  object["max_workers"] = status.max_workers;
  object["loss"] = Number(status.loss);
  object["samples_per_second"] = Number(status.samples_per_second);
  object["samples_consumed"] = status.samples_consumed;
}

void AddChange(Json& object, const MembershipChange& change) {
  object["cause"] = change.cause;
  object["members_before"] = change.members_before;
  object["members_after"] = change.members_after;
  object["step"] = change.step;
  object["detect_ms"] = Number(change.detect_ms);
  object["agree_ms"] = Number(change.agree_ms);
  object["connect_ms"] = Number(change.connect_ms);
  object["state_ms"] = Number(change.state_ms);
  object["resume_ms"] = Number(change.resume_ms);
  object["steps_redone"] = change.steps_redone;
}

}  // namespace

std::string Rfc3339(WallTime time) {
  const auto milliseconds = std::chrono::floor<std::chrono::milliseconds>(time);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(milliseconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                     (milliseconds - seconds).count());
}

std::string StatusJson(const JobIdentity& job, const JobStatus& status,
                       const std::string& platform_status) {
  Json object = {{"name", job.name}, {"platform", job.platform}};
  AddFigures(object, status);
  object["workers"] = Json::array();
  for (const WorkerStatus& worker : status.workers)
    object["workers"].push_back(WorkerObject(worker));
  object["message"] = status.message;
  if (!platform_status.empty()) {
    object["platform_status"] = Json::parse(platform_status, nullptr, false);
  }
  return Dump(object);
}

std::string ProgressJson(const JobStatus& status) {
  Json object = {{"event", "progress"}};
  AddFigures(object, status);
  object["message"] = status.message;
  return Dump(object);
}

std::string EventJson(uint64_t sequence, WallTime time, const EmitEvent& event) {
  Json object = {{"sequence", sequence},
                 {"time", Rfc3339(time)},
                 {"generation", event.generation},
                 {"kind", event.kind},
                 {"message", event.message}};
  if (event.change) AddChange(object, *event.change);
  return Dump(object);
}

uint64_t EventSequence(std::string_view line) {
  if (!line.starts_with(kSequencePrefix) || line.back() != '}') return 0;
  line.remove_prefix(kSequencePrefix.size());
  uint64_t sequence = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), sequence);
  return error == std::errc{} && *end == ',' ? sequence : 0;
}

std::string FinishedJson(const FinishJob& finish, const JobStatus& status, uint64_t generations,
                         double seconds) {
  Json object = {{"event", "finished"}, {"phase", PhaseName(finish.phase)}};
  Json metrics = Json::object();
  if (finish.result) {
    for (const auto& [name, value] : finish.result->metrics) metrics[name] = Number(value);
  }
  object["step"] = finish.result ? finish.result->step : status.step;
  object["loss"] = Number(finish.result ? finish.result->loss : status.loss);
  object["weights"] = finish.result ? Json(finish.result->weights) : Json(nullptr);
  object["samples_consumed"] =
      finish.result ? finish.result->samples_consumed : status.samples_consumed;
  object["generations"] = generations;
  object["seconds"] = Number(seconds);
  object["metrics"] = std::move(metrics);
  object["misses"] = finish.result ? finish.result->misses : 0;
  object["exit_code"] = finish.exit_code;
  object["message"] = finish.message;
  object["failed_worker"] = finish.failed_worker;
  object["last_output"] = finish.last_output;
  return Dump(object);
}

}  // namespace muster
