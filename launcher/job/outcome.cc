#include "launcher/job/outcome.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/job/fields.h"
#include "launcher/job/store.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace muster {

using nlohmann::json;

void WriteOrWarn(const std::filesystem::path& path, const std::string& line) {
  const Status written = WriteFileAtomically(path, line + "\n");
  if (!written) log::warn("file not written error=\"{}\"", written.error().ToString());
}

json FinalStatus(json status, const std::string& phase, const std::string& message) {
  status["phase"] = phase;
  status["message"] = message;
  status["world_size"] = 0;
  status["samples_per_second"] = 0.0;
  MarkWorkersGone(status);
  return status;
}

std::string WriteSubstituteResult(const JobFolder& folder, const JobSpec& spec,
                                  const std::string& phase, int exit_code,
                                  const std::string& message) {
  const auto text = ReadFile(folder.status());
  json status = text ? json::parse(*text, nullptr, false) : json();
  if (!status.is_object()) {
    const bool cluster = std::filesystem::exists(folder.cluster());
    status = PendingStatus(spec, cluster ? "kubernetes" : "local");
  }
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const nlohmann::ordered_json result = {
      {"event", "finished"},
      {"phase", phase},
      {"step", FieldOr<json>(status, "step", 0)},
      {"loss", FieldOr<json>(status, "loss", nullptr)},
      {"weights", nullptr},
      {"samples_consumed", FieldOr<json>(status, "samples_consumed", 0)},
      {"generations", FieldOr<json>(status, "generation", 0)},
      {"seconds", static_cast<double>(now.count() - spec.created_ms) / 1e3},
      {"metrics", json::object()},
      {"exit_code", exit_code},
      {"message", message},
      {"failed_worker", ""},
      {"last_output", ""}};
  status = FinalStatus(std::move(status), phase, message);
  WriteOrWarn(folder.status(), status.dump());
  WriteOrWarn(folder.result(), result.dump());
  return result.dump();
}

}  // namespace muster
