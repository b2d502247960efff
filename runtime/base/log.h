// Log: one line an event on stderr, `key=value`, with a prefix that says who speaks. A thin layer over spdlog.
//
// Threading: safe from any thread.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace muster {

// Sends log lines to stderr with `prefix` (for example "digits w-3") after the time. The level comes from
// MUSTER_LOG (debug, info, warn, error); the default is `warn` in programs run by hand and `info` below a launcher.
void InitLog(const std::string& prefix, const std::string& default_level = "info");

namespace log = ::spdlog;

}  // namespace muster
