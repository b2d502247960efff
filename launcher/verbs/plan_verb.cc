// What `launcher plan` and `launcher schema` print.
#include <sched.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/jobfile/schema.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/text.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

int Cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

// What the kernel could give to new programs; 0 if it does not say.
int64_t AvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == "MemAvailable:" && file >> kib) return kib * 1024;
  }
  return 0;
}

std::string GibText(int64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1 << 30));
}

// Supervisor, coordinator, and for each slot an agent and its worker.
int Processes(const JobSpec& spec) { return 2 + 2 * spec.max_workers; }

std::string CheckpointText(const RunPlan& plan) {
  const JobSpec& spec = plan.spec;
  if (spec.checkpoint.empty()) return "none, a stopped job cannot go on";
  const std::string every =
      fmt::format("every {} steps in {}", spec.checkpoint_every, spec.checkpoint.string());
  if (!spec.resume) return every + "; fresh, from step 0";
  if (plan.newest_checkpoint) {
    return fmt::format("{}; resumes from step {}", every, *plan.newest_checkpoint);
  }
  return every + "; there is none to resume from, the job would end with exit code 6";
}

Json PlanJson(const RunPlan& plan) {
  const JobSpec& spec = plan.spec;
  Json object = {{"name", plan.name_is_random ? Json() : Json(spec.name)},
                 {"platform", "local"},
                 {"workers", {{"min", spec.min_workers}, {"max", spec.max_workers}}},
                 {"processes",
                  {{"total", Processes(spec)},
                   {"launcher", 1},
                   {"coordinator", 1},
                   {"agents", spec.max_workers},
                   {"workers", spec.max_workers}}},
                 {"program",
                  {{"path", spec.executable.string()},
                   {"arguments", spec.argv},
                   {"folder", spec.cwd.string()}}},
                 {"environment", spec.environment},
                 {"reduce", spec.reduce},
                 {"collectives", spec.collectives},
                 {"cores", Cores()},
                 {"memory_available_bytes", AvailableBytes()}};
  object["checkpoint"] = nullptr;
  if (!spec.checkpoint.empty()) {
    object["checkpoint"] = {
        {"dir", spec.checkpoint.string()},
        {"every_steps", spec.checkpoint_every},
        {"resume", spec.resume},
        {"found_step", plan.newest_checkpoint ? Json(*plan.newest_checkpoint) : Json()}};
  }
  object["values"] = Json::array();
  for (const Origin& value : plan.values) {
    Json row = {{"key", value.key}, {"value", value.value}, {"from", value.from}};
    if (!value.overrides.empty()) row["overrides"] = value.overrides;
    object["values"].push_back(std::move(row));
  }
  object["set_aside"] = plan.set_aside;
  return object;
}

std::string PlanText(const RunPlan& plan) {
  const JobSpec& spec = plan.spec;
  const int64_t available = AvailableBytes();
  std::string text =
      fmt::format("{} would run here; nothing was started\n",
                  plan.name_is_random ? "a job with a name like " + spec.name : "job " + spec.name);
  text += fmt::format("  workers      {} on {} cores\n",
                      WorkersText(spec.min_workers, spec.max_workers), Cores());
  text += fmt::format("  processes    {}: launcher, coordinator, {} agents, {} workers\n",
                      Processes(spec), spec.max_workers, spec.max_workers);
  text += fmt::format("  memory       {} available, {} a worker\n", GibText(available),
                      GibText(available / spec.max_workers));
  text += fmt::format("  program      {}\n  started in   {}\n", spec.executable.string(),
                      spec.cwd.string());
  text += fmt::format("  checkpoints  {}\n", CheckpointText(plan));
  for (const auto& [name, value] : spec.environment) {
    text += fmt::format("  environment  {}={}\n", name, value);
  }
  for (const std::string& key : plan.set_aside) text += fmt::format("  set aside    {}\n", key);
  std::vector<std::vector<std::string>> rows{{"KEY", "VALUE", "FROM", "OVERRIDES"}};
  for (const Origin& value : plan.values) {
    rows.push_back({value.key, value.value, value.from, value.overrides});
  }
  return text + "\n" + Table(rows);
}

}  // namespace

Result<int> ShowPlan(const Invocation& invocation) {
  MUSTER_ASSIGN(const RunPlan plan, PlanRun(invocation, PlanFor::kShow));
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  if (store.IsRunning(plan.spec.name)) {
    return WithHint(
        Err(Code::kAlreadyExists, "a job named \"{}\" is running already", plan.spec.name),
        fmt::format("choose another --name, or stop it: launcher stop {}", plan.spec.name));
  }
  Print(invocation.json() ? PlanJson(plan).dump() + "\n" : PlanText(plan));
  return 0;
}

Result<int> ShowSchema(const Invocation& invocation) {
  if (invocation.json()) {
    Print(JsonSchema());
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"KEY", "VALUE", "DEFAULT"}};
  std::string help;
  for (const Field& field : JobFileFields()) {
    rows.push_back({std::string(field.path), TypeText(field),
                    field.required ? "required" : std::string(field.standard)});
    help += fmt::format("{}\n    {}{}\n", field.path, field.help,
                        field.kubernetes ? "; needs --platform kubernetes" : "");
  }
  Print(Table(rows) + "\n" + help);
  return 0;
}

}  // namespace muster
