#include "launcher/job/job.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "runtime/base/device_choice.h"
#include "runtime/base/files.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{16} << 20;
constexpr size_t kSecretDigits = 64;

bool IsHex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Status CheckRange(std::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return Err(Code::kInvalidArgument, "{} is {}, it must be {} to {}", field, value, low, high);
}

Status CheckOneOf(std::string_view field, const std::string& value,
                  std::initializer_list<std::string_view> allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return {};
  return Err(Code::kInvalidArgument, "{} is \"{}\", it must be one of: {}", field, value,
             fmt::join(allowed, ", "));
}

Status CheckAbsolute(std::string_view field, const std::filesystem::path& path) {
  if (path.is_absolute()) return {};
  return Err(Code::kInvalidArgument, "{} is \"{}\", it must be an absolute path", field,
             path.string());
}

// Runs `parse` and turns nlohmann's exceptions into an error: none may leave this file.
template <typename T, typename Parse>
Result<T> Guarded(std::string_view what, Parse parse) {
  try {
    return parse();
  } catch (const json::exception& error) {
    return Err(Code::kInvalidArgument, "{} is not valid: {}", what, error.what());
  }
}

}  // namespace

bool IsJobName(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-' || name.back() == '-') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == name.npos;
}

std::vector<std::string> SlotNames(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(fmt::format("w-{}", i));
  return names;
}

Status JobSpec::Validate() const {
  if (!IsJobName(name)) {
    return Err(Code::kInvalidArgument,
               "name is \"{}\", it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a "
               "letter or digit",
               name);
  }
  if (!IsHex(id, 32)) return Err(Code::kInvalidArgument, "id is \"{}\", not 32 hex digits", id);
  MUSTER_TRY(CheckAbsolute("executable", executable));
  MUSTER_TRY(CheckAbsolute("cwd", cwd));
  if (!bundle.empty() && !IsHex(bundle, 64)) {
    return Err(Code::kInvalidArgument, "bundle is \"{}\", not 64 hex digits", bundle);
  }
  if (argv.empty()) return Err(Code::kInvalidArgument, "argv is empty, it must name the program");
  for (const auto& [variable, value] : environment) {
    if (variable.empty() || variable.find('=') != variable.npos ||
        variable.starts_with("MUSTER_")) {
      return Err(Code::kInvalidArgument, "environment has the name \"{}\", which a job cannot set",
                 variable);
    }
  }
  MUSTER_TRY(CheckRange("max_workers", max_workers, 1, kMaxWorkers));
  MUSTER_TRY(CheckRange("min_workers", min_workers, 1, max_workers));
  MUSTER_TRY(CheckOneOf("reduce", reduce, {"exact", "float"}));
  MUSTER_TRY(CheckOneOf("collectives", collectives, {"auto", "host", "nccl"}));
  if (!DeviceChoice::Parse(device)) {
    return Err(Code::kInvalidArgument, "device is \"{}\", it must be {}", device, kDeviceChoices);
  }
  if (!checkpoint.empty()) MUSTER_TRY(CheckAbsolute("checkpoint", checkpoint));
  if (resume && checkpoint.empty()) {
    return Err(Code::kInvalidArgument, "resume needs a checkpoint folder");
  }
  MUSTER_TRY(CheckRange("heartbeat_timeout_ms", heartbeat_timeout_ms, 100, 600'000));
  MUSTER_TRY(CheckRange("step_timeout_ms", step_timeout_ms, 100, 86'400'000));
  return CheckRange("start_timeout_ms", start_timeout_ms, 100, 86'400'000);
}

std::string JobSpec::ToJson() const {
  const json object = {{"name", name},
                       {"id", id},
                       {"executable", executable.string()},
                       {"argv", argv},
                       {"cwd", cwd.string()},
                       {"bundle", bundle},
                       {"environment", environment},
                       {"min_workers", min_workers},
                       {"max_workers", max_workers},
                       {"reduce", reduce},
                       {"collectives", collectives},
                       {"device", device},
                       {"checkpoint", checkpoint.string()},
                       {"checkpoint_every", checkpoint_every},
                       {"resume", resume},
                       {"heartbeat_timeout_ms", heartbeat_timeout_ms},
                       {"step_timeout_ms", step_timeout_ms},
                       {"start_timeout_ms", start_timeout_ms},
                       {"detached", detached},
                       {"supervisor_pid", supervisor_pid},
                       {"created_ms", created_ms}};
  // A program's arguments may be any bytes; what is not UTF-8 is escaped by the caller (launcher
  // run refuses it).
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<JobSpec> JobSpec::FromJson(std::string_view text) {
  auto parsed = Guarded<JobSpec>("job.json", [&] {
    const json object = ParseIntegerJson(text);
    JobSpec spec;
    object.at("name").get_to(spec.name);
    object.at("id").get_to(spec.id);
    spec.executable = object.at("executable").get<std::string>();
    object.at("argv").get_to(spec.argv);
    spec.cwd = object.at("cwd").get<std::string>();
    // Jobs of earlier versions have none, and are still listed.
    if (object.contains("bundle")) object.at("bundle").get_to(spec.bundle);
    if (object.contains("environment")) object.at("environment").get_to(spec.environment);
    object.at("min_workers").get_to(spec.min_workers);
    object.at("max_workers").get_to(spec.max_workers);
    object.at("reduce").get_to(spec.reduce);
    object.at("collectives").get_to(spec.collectives);
    if (object.contains("device")) object.at("device").get_to(spec.device);
    spec.checkpoint = object.at("checkpoint").get<std::string>();
    object.at("checkpoint_every").get_to(spec.checkpoint_every);
    object.at("resume").get_to(spec.resume);
    object.at("heartbeat_timeout_ms").get_to(spec.heartbeat_timeout_ms);
    object.at("step_timeout_ms").get_to(spec.step_timeout_ms);
    object.at("start_timeout_ms").get_to(spec.start_timeout_ms);
    object.at("detached").get_to(spec.detached);
    object.at("supervisor_pid").get_to(spec.supervisor_pid);
    object.at("created_ms").get_to(spec.created_ms);
    return spec;
  });
  if (parsed) MUSTER_TRY(parsed->Validate());
  return parsed;
}

Result<JobSpec> JobFolder::ReadSpec() const {
  MUSTER_ASSIGN(const std::string text, ReadFile(spec(), kMaxFileBytes));
  return JobSpec::FromJson(text);
}

Result<std::string> JobFolder::ReadSecret() const {
  MUSTER_ASSIGN(std::string text, ReadFile(secret(), 4096));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (!IsHex(text, kSecretDigits)) {
    return Err(Code::kInvalidArgument, "{} does not hold {} hex digits", secret().string(),
               kSecretDigits);
  }
  return text;
}

Result<CoordinatorAddress> JobFolder::ReadCoordinator() const {
  MUSTER_ASSIGN(const std::string text, ReadFile(coordinator(), kMaxFileBytes));
  return Guarded<CoordinatorAddress>(coordinator().string(), [&] {
    const json object = ParseIntegerJson(text);
    return CoordinatorAddress{object.at("address").get<std::string>(),
                              object.at("pid").get<int64_t>(), object.value("gateway", "")};
  });
}

Result<GatewayPlace> JobFolder::ReadGateway() const {
  MUSTER_ASSIGN(const std::string text, ReadFile(gateway(), kMaxFileBytes));
  const std::string_view line = std::string_view(text).substr(0, text.find('\n'));
  const size_t colon = line.rfind(':');
  if (colon != line.npos) {
    GatewayPlace place{std::string(line.substr(0, colon)), 0};
    const char* end = line.data() + line.size();
    const auto [last, error] = std::from_chars(line.data() + colon + 1, end, place.port);
    if (error == std::errc{} && last == end) return place;
  }
  return Err(Code::kInvalidArgument, "{}: \"{}\" is no ADDRESS:PORT", gateway().string(), line);
}

Result<ClusterPlace> JobFolder::ReadCluster() const {
  MUSTER_ASSIGN(const std::string text, ReadFile(cluster(), kMaxFileBytes));
  return Guarded<ClusterPlace>(cluster().string(), [&] {
    const json object = ParseIntegerJson(text);
    return ClusterPlace{object.at("kubeconfig").get<std::string>(),
                        object.at("context").get<std::string>(),
                        object.at("namespace").get<std::string>(),
                        object.at("run").get<std::string>(), object.at("uid").get<std::string>()};
  });
}

Status JobFolder::WriteSpec(const JobSpec& job) const {
  return WriteFileAtomically(spec(), job.ToJson());
}

Status JobFolder::WriteSecret(const std::string& text) const {
  return WriteFileAtomically(secret(), text + "\n", false, 0600);
}

Status JobFolder::WriteCoordinator(const CoordinatorAddress& address) const {
  json object = {{"address", address.address}, {"pid", address.pid}};
  if (!address.gateway.empty()) object["gateway"] = address.gateway;
  return WriteFileAtomically(coordinator(), object.dump() + "\n");
}

Status JobFolder::WriteCluster(const ClusterPlace& place) const {
  const nlohmann::ordered_json object = {{"kubeconfig", place.kubeconfig},
                                         {"context", place.context},
                                         {"namespace", place.namespace_name},
                                         {"run", place.run},
                                         {"uid", place.uid}};
  return WriteFileAtomically(cluster(), object.dump() + "\n");
}

}  // namespace muster
