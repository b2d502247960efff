#include "launcher/jobfile/reader.h"

#include <charconv>
#include <set>
#include <utility>

#include "launcher/jobfile/scalars.h"
#include "runtime/base/device_choice.h"

namespace muster {
namespace {

constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kDigits = "0123456789";

bool OnlyOf(std::string_view text, std::initializer_list<std::string_view> sets) {
  for (const char c : text) {
    bool found = false;
    for (const std::string_view set : sets) found = found || set.find(c) != set.npos;
    if (!found) return false;
  }
  return true;
}

// --- Rules for texts: empty if kept, else what it must be. ---

std::string JobName(const std::string& text) {
  if (IsJobName(text)) return "";
  return "it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit";
}

std::string NotEmpty(const std::string& text) { return text.empty() ? "it must not be empty" : ""; }

std::string DeviceName(const std::string& text) {
  return DeviceChoice::Parse(text) ? "" : fmt::format("it must be {}", kDeviceChoices);
}

std::string VariableName(const std::string& text) {
  const bool plain = !text.empty() && OnlyOf(text, {kLower, kUpper, kDigits, "_"});
  if (!plain || kDigits.find(text[0]) != kDigits.npos) {
    return "it must be letters, digits and _, and not begin with a digit";
  }
  if (text.starts_with("MUSTER_")) return "which the launcher sets itself";
  return "";
}

// A part of a label's name, and a label's value (Kubernetes: "Labels and Selectors", syntax and character set).
bool IsLabelWord(std::string_view text) {
  if (text.empty() || text.size() > 63 || !OnlyOf(text, {kLower, kUpper, kDigits, "-_."})) {
    return false;
  }
  return OnlyOf(text.substr(0, 1), {kLower, kUpper, kDigits}) &&
         OnlyOf(text.substr(text.size() - 1), {kLower, kUpper, kDigits});
}

std::string LabelName(const std::string& text) {
  const size_t slash = text.find('/');
  const bool good = slash == text.npos ? IsLabelWord(text)
                                       : IsObjectName(text.substr(0, slash)) &&
                                             IsLabelWord(text.substr(slash + 1));
  return good ? "" : "which is no label's name, such as topology.kubernetes.io/zone";
}

std::string LabelValue(const std::string& text) {
  if (text.empty() || IsLabelWord(text)) return "";
  return "it must be at most 63 letters, digits, -, _ and ., a letter or digit at both ends";
}

std::string InstanceType(const std::string& text) {
  return text.empty() ? "it must not be empty" : LabelValue(text);
}

std::string ObjectName(const std::string& text) {
  return IsObjectName(text) ? "" : "it must be a-z, 0-9, - and ., a letter or digit at both ends";
}

std::string Image(const std::string& text) {
  return IsImageName(text) ? "" : "which is no image's name, such as registry.example/train:1.2";
}

// Whether `text` is a number above 0, such as 4 or 0.5, before one of `suffixes`.
bool IsQuantity(std::string_view text, std::initializer_list<std::string_view> suffixes) {
  for (const std::string_view suffix : suffixes) {
    if (suffix.empty() || !text.ends_with(suffix)) continue;
    text.remove_suffix(suffix.size());
    break;
  }
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  const std::string_view rest = dot == text.npos ? "0" : text.substr(dot + 1);
  return !whole.empty() && !rest.empty() && whole.size() + rest.size() <= 18 &&
         OnlyOf(whole, {kDigits}) && OnlyOf(rest, {kDigits}) &&
         text.find_first_of("123456789") != text.npos;
}

std::string Cores(const std::string& text) {
  return IsQuantity(text, {"m"}) ? "" : "it must be a number of cores, such as 4, 0.5 or 500m";
}

std::string Bytes(const std::string& text) {
  if (IsQuantity(text, {"Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T"})) return "";
  return "it must be a number of bytes, such as 512Mi, 8Gi or 1G";
}

// --- Sections ---

std::optional<Growth> ParseGrowth(std::string_view text) {
  if (text == "max") return Growth{};
  if (text == "opportunistic") return Growth{Growth::Mode::kOpportunistic, 0};
  constexpr std::string_view kStep = "step ";
  if (!text.starts_with(kStep)) return std::nullopt;
  text.remove_prefix(kStep.size());
  int step = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || text[0] == '0' || step < 1 || step > kMaxWorkers) return std::nullopt;
  return Growth{Growth::Mode::kStep, step};
}

Growth ReadGrowth(Section& section) {
  Growth growth;
  section.Text("growth", [&](const std::string& text) -> std::string {
    const auto parsed = ParseGrowth(text);
    growth = parsed.value_or(Growth{});
    if (parsed) return "";
    return fmt::format("it must be max, step K with K from 1 to {}, or opportunistic", kMaxWorkers);
  });
  if (growth.mode == Growth::Mode::kOpportunistic && !section.Has("priority_class")) {
    section.Complain("growth",
                     "is opportunistic, which needs priority_class: one below -10, for which no "
                     "autoscaler buys machines");
  }
  return growth;
}

void ReadDevice(Section& section, Pool& pool) {
  const DocumentNode* node = section.Find("device");
  if (node == nullptr) return;
  if (node->kind == DocumentNode::Kind::kText) {
    pool.gpu = section.Choice("device") == "gpu";
    return;
  }
  auto device = section.Sub("device");
  if (!device) return;
  pool.gpu = device->Choice("kind") == "gpu";
  pool.device_count = static_cast<int>(device->Number("count").value_or(1));
  const int count = pool.device_count;
  if (pool.workers.min % count == 0 && pool.workers.max % count == 0) return;
  device->Complain("count", fmt::format("is {}, which does not divide the workers of the pool: a "
                                        "pod has a worker on each of its devices",
                                        count));
}

Pool ReadPool(Section& section) {
  Pool pool;
  pool.name = section.Text("name", JobName).value_or("");
  pool.workers = section.Workers("workers").value_or(WorkerRange{0, 0});
  ReadDevice(section, pool);
  pool.instance_types = section.Texts("instance_types", InstanceType);
  pool.node_selector = section.Names("node_selector", LabelName, LabelValue);
  pool.capacity = section.Choice("capacity").value_or("any");
  pool.priority_class = section.Text("priority_class", ObjectName).value_or("");
  pool.growth = ReadGrowth(section);
  pool.drain = section.Choice("drain").value_or("allow") == "allow";
  if (auto resources = section.Sub("resources")) {
    pool.cpu = resources->Text("cpu", Cores).value_or("");
    pool.memory = resources->Text("memory", Bytes).value_or("");
  }
  return pool;
}

void CheckTotal(Section& top, const std::vector<Pool>& pools) {
  int64_t min = 0;
  int64_t max = 0;
  for (const Pool& pool : pools) {
    if (pool.workers.max == 0) return;  // wrong, and reported
    min += pool.workers.min;
    max += pool.workers.max;
  }
  if (min < 1) top.Complain("pools", "have a minimum of 0 workers in total, at least 1 is needed");
  if (max > kMaxWorkers) {
    top.Complain("pools", fmt::format("have up to {} workers in total, at most {} are allowed", max,
                                      kMaxWorkers));
  }
}

// Worker "a-1-1" is the second of a pod of pool "a" with several, or that of a pod of pool "a-1".
bool MayShareNames(const Pool& pool, const Pool& other) {
  return pool.device_count > 1 && other.name.size() > pool.name.size() + 1 &&
         other.name.starts_with(pool.name + "-") &&
         OnlyOf(std::string_view(other.name).substr(pool.name.size() + 1), {kDigits});
}

void ReadPools(Section& top, JobFile& job) {
  std::vector<Section> sections = top.Subs("pools");
  std::set<std::string> names;
  for (Section& section : sections) {
    job.pools.push_back(ReadPool(section));
    const std::string& name = job.pools.back().name;
    if (!name.empty() && !names.insert(name).second) {
      section.Complain("name", fmt::format("is \"{}\", as that of a pool above", name));
    }
    for (const Pool& other : job.pools) {
      if (!MayShareNames(other, job.pools.back()) && !MayShareNames(job.pools.back(), other))
        continue;
      section.Complain(
          "name", fmt::format("is \"{}\" beside a pool \"{}\": workers of both could have one name",
                              name, other.name));
    }
  }
  if (!job.pools.empty()) CheckTotal(top, job.pools);
  if (top.Has("workers") && top.Has("pools")) {
    const bool workers_last = top.Find("pools")->at < top.Find("workers")->at;
    top.Complain(workers_last ? "workers" : "pools",
                 fmt::format("cannot be given beside {}: the pools say how many workers there are",
                             workers_last ? "pools" : "workers"));
  }
}

std::optional<int> Timeout(Section& top, std::string_view key) {
  const auto value = top.Number(key);
  return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
}

}  // namespace

bool IsImageName(std::string_view text) {
  return !text.empty() && text.size() <= 512 && OnlyOf(text, {kLower, kUpper, kDigits, "-_./:@"}) &&
         text[0] != '-';
}

bool IsObjectName(std::string_view text) {
  return !text.empty() && text.size() <= 253 && OnlyOf(text, {kLower, kDigits, "-."}) &&
         OnlyOf(text.substr(0, 1), {kLower, kDigits}) &&
         OnlyOf(text.substr(text.size() - 1), {kLower, kDigits});
}

JobFile ReadJob(const DocumentNode& root, Findings& findings) {
  JobFile job;
  if (root.kind == DocumentNode::Kind::kRefused) return job;
  if (root.kind != DocumentNode::Kind::kMapping) {
    findings.errors.push_back(
        {root.at, fmt::format("the job is {}, it must be a mapping with the keys {}", Shown(root),
                              fmt::join(KeysOf(""), ", "))});
    return job;
  }
  Section top(root, "", "", findings);
  job.name = top.Text("name", JobName);
  job.platform = top.Choice("platform");
  if (auto program = top.Sub("program")) {
    job.program =
        ProgramRequest{program->Text("path", NotEmpty).value_or(""), program->Texts("args")};
  }
  job.image = top.Text("image", Image);
  job.environment = top.Names("environment", VariableName);
  job.workers = top.Workers("workers");
  ReadPools(top, job);
  job.collectives = top.Choice("collectives");
  job.device = top.Text("device", DeviceName);
  job.reduce = top.Choice("reduce");
  if (auto checkpoint = top.Sub("checkpoint")) {
    job.checkpoint =
        CheckpointRequest{checkpoint->Text("dir", NotEmpty).value_or(""),
                          checkpoint->Number("every_steps"), checkpoint->Switch("resume")};
  }
  job.heartbeat_timeout_ms = Timeout(top, "heartbeat_timeout_ms");
  job.step_timeout_ms = Timeout(top, "step_timeout_ms");
  job.start_timeout_ms = Timeout(top, "start_timeout_ms");
  job.files = top.Texts("files", NotEmpty);
  return job;
}

}  // namespace muster
