// What `launcher plan` and `launcher schema` print.
#include <sched.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/jobfile/schema.h"
#include "launcher/platform/kubernetes/fleet_setup.h"
#include "launcher/verbs/cluster_target.h"
#include "launcher/verbs/jobs.h"
#include "launcher/verbs/run.h"
#include "launcher/verbs/shipping.h"
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

Json RangeJson(int min, int max) { return {{"min", min}, {"max", max}}; }

std::string TitleText(const RunPlan& plan, std::string_view where) {
  return fmt::format(
      "{} would run {}\n",
      plan.name_is_random ? "a job with a name like " + plan.spec.name : "job " + plan.spec.name,
      where);
}

// What is the same wherever it runs.
Json CommonJson(const RunPlan& plan, std::string_view platform) {
  const JobSpec& spec = plan.spec;
  Json object = {{"name", plan.name_is_random ? Json() : Json(spec.name)},
                 {"platform", platform},
                 {"workers", RangeJson(spec.min_workers, spec.max_workers)},
                 {"program",
                  {{"path", spec.executable.string()},
                   {"arguments", spec.argv},
                   {"folder", spec.cwd.string()}}},
                 {"environment", spec.environment},
                 {"reduce", spec.reduce},
                 {"collectives", spec.collectives},
                 {"device", spec.device}};
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

std::string CommonText(const RunPlan& plan) {
  std::string text;
  for (const auto& [name, value] : plan.spec.environment) {
    text += fmt::format("  environment  {}={}\n", name, value);
  }
  for (const std::string& key : plan.set_aside) text += fmt::format("  set aside    {}\n", key);
  std::vector<std::vector<std::string>> rows{{"KEY", "VALUE", "FROM", "OVERRIDES"}};
  for (const Origin& value : plan.values) {
    rows.push_back({value.key, value.value, value.from, value.overrides});
  }
  return text + "\n" + Table(rows);
}

Json LocalPlanJson(const RunPlan& plan) {
  Json object = CommonJson(plan, "local");
  object["processes"] = {{"total", Processes(plan.spec)},
                         {"launcher", 1},
                         {"coordinator", 1},
                         {"agents", plan.spec.max_workers},
                         {"workers", plan.spec.max_workers}};
  object["cores"] = Cores();
  object["memory_available_bytes"] = AvailableBytes();
  return object;
}

std::string LocalPlanText(const RunPlan& plan) {
  const JobSpec& spec = plan.spec;
  const int64_t available = AvailableBytes();
  std::string text = TitleText(plan, "here; nothing was started");
  text += fmt::format("  workers      {} on {} cores\n",
                      WorkersText(spec.min_workers, spec.max_workers), Cores());
  text += fmt::format("  processes    {}: launcher, coordinator, {} agents, {} workers\n",
                      Processes(spec), spec.max_workers, spec.max_workers);
  text += fmt::format("  memory       {} available, {} a worker\n", GibText(available),
                      GibText(available / spec.max_workers));
  text += fmt::format("  program      {}\n  started in   {}\n", spec.executable.string(),
                      spec.cwd.string());
  text += fmt::format("  checkpoints  {}\n", CheckpointText(plan));
  return text + CommonText(plan);
}

// What a pod of it asks of its machine, as the scheduler will read it: a limit alone is a request too.
Json RequestsOf(const kubernetes::ClusterRun& run, const Pool& pool) {
  const Json pod = kubernetes::WorkerPod(run, pool, 0);
  const Json resources =
      pod.at("/spec/containers/0"_json_pointer).value("resources", Json::object());
  Json requests = resources.value("requests", Json::object());
  const Json limits = resources.value("limits", Json::object());
  for (const auto& [key, value] : limits.items()) {
    if (!requests.contains(key)) requests[key] = value;
  }
  return requests;
}

std::string MachinesText(const Pool& pool) {
  std::vector<std::string> parts;
  if (!pool.instance_types.empty()) {
    parts.push_back(fmt::format("{}", fmt::join(pool.instance_types, " or ")));
  }
  if (pool.capacity != "any") parts.push_back(pool.capacity);
  for (const auto& [key, value] : pool.node_selector) {
    parts.push_back(fmt::format("{}={}", key, value));
  }
  return parts.empty() ? "any" : fmt::format("{}", fmt::join(parts, ", "));
}

Json ClusterPlanJson(const ClusterPlan& plan) {
  Json object = CommonJson(plan.job, "kubernetes");
  object["image"] = plan.run.image;
  object["sends"] = nullptr;
  if (plan.bundle) {
    const Manifest& manifest = plan.bundle->manifest();
    object["sends"] = {{"files", manifest.entries().size()},
                       {"bytes", manifest.bytes()},
                       {"bundle", plan.bundle->hash()}};
  }
  object["pools"] = Json::array();
  const auto pods =
      kubernetes::PodsFor(plan.run, {plan.run.spec.min_workers, plan.run.spec.max_workers});
  for (const Pool& pool : kubernetes::PoolsOf(plan.run)) {
    const WorkerRange& range = pods.at(pool.name);
    object["pools"].push_back({{"name", pool.name},
                               {"pods", RangeJson(range.min, range.max)},
                               {"workers_a_pod", pool.device_count},
                               {"requests", RequestsOf(plan.run, pool)},
                               {"instance_types", pool.instance_types},
                               {"capacity", pool.capacity},
                               {"node_selector", pool.node_selector}});
  }
  return object;
}

std::string ClusterPlanText(const ClusterPlan& plan) {
  const JobSpec& spec = plan.run.spec;
  std::string text =
      TitleText(plan.job, "on Kubernetes; nothing was started, and no cluster asked");
  text += fmt::format("  workers      {}, and a coordinator\n",
                      WorkersText(spec.min_workers, spec.max_workers));
  text += fmt::format("  image        {}\n  program      {}\n  started in   {}\n", plan.run.image,
                      spec.executable.string(), spec.cwd.string());
  text += fmt::format("  sends        {}\n", plan.bundle ? WhatIsSent(*plan.bundle) : "nothing");
  text += fmt::format("  checkpoints  {}\n",
                      spec.checkpoint.empty()
                          ? "none, a stopped job cannot go on"
                          : fmt::format("every {} steps in {} of the pods{}", spec.checkpoint_every,
                                        spec.checkpoint.string(),
                                        spec.resume ? "; resumes from the newest there" : ""));
  std::vector<std::vector<std::string>> rows{{"POOL", "PODS", "EACH ASKS FOR", "MACHINES"}};
  const auto pods = kubernetes::PodsFor(plan.run, {spec.min_workers, spec.max_workers});
  for (const Pool& pool : kubernetes::PoolsOf(plan.run)) {
    std::vector<std::string> asks;
    const Json requests = RequestsOf(plan.run, pool);
    for (const auto& [key, value] : requests.items()) {
      asks.push_back(fmt::format("{} {}", key, value.get<std::string>()));
    }
    const WorkerRange& range = pods.at(pool.name);
    rows.push_back({pool.name, fmt::format("{} to {}", range.min, range.max),
                    fmt::format("{}", fmt::join(asks, ", ")), MachinesText(pool)});
  }
  return text + "\n" + Table(rows) + CommonText(plan.job);
}

}  // namespace

Result<int> ShowPlan(const Invocation& invocation) {
  MUSTER_ASSIGN(const bool cluster, WantsCluster(invocation));
  if (cluster) {
    MUSTER_ASSIGN(const ClusterPlan plan, PlanClusterRun(invocation, "default"));
    Print(invocation.json() ? ClusterPlanJson(plan).dump() + "\n" : ClusterPlanText(plan));
    return 0;
  }
  MUSTER_ASSIGN(const RunPlan plan, PlanRun(invocation, PlanFor::kShow));
  MUSTER_ASSIGN(const JobStore store, OpenStore());
  if (store.IsRunning(plan.spec.name)) {
    return WithHint(
        Err(Code::kAlreadyExists, "a job named \"{}\" is running already", plan.spec.name),
        fmt::format("choose another --name, or stop it: launcher stop {}", plan.spec.name));
  }
  Print(invocation.json() ? LocalPlanJson(plan).dump() + "\n" : LocalPlanText(plan));
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
