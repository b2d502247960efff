#include "runtime/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>

namespace muster {

void InitLog(const std::string& prefix, const std::string& default_level) {
  auto logger =
      std::make_shared<spdlog::logger>("muster", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%f %l " + prefix + " %v");
  const char* level = std::getenv("MUSTER_LOG");
  logger->set_level(spdlog::level::from_str(level != nullptr ? level : default_level));
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace muster
