// What a kubelet's log endpoint is asked for, and what of a log is the answer.
//
// Threading: plain values and pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace muster::cluster {

using LogTime = std::chrono::system_clock::time_point;

struct LogRequest {
  std::string pod;  // "NAMESPACE/NAME"
  std::string container;
  bool follow = false;
  bool timestamps = false;
  std::optional<uint64_t> tail_lines;
  std::optional<uint64_t> since_seconds;
  std::optional<uint64_t> limit_bytes;
};

// The target of a request: "/containerLogs/NAMESPACE/POD/CONTAINER?follow=true&tailLines=5". Unknown options are ignored, as by a
// kubelet. Errors: kNotFound (not this endpoint), kInvalidArgument (no such number), kUnimplemented (logs of earlier containers).
Result<LogRequest> ParseLogTarget(std::string_view target);

// What a pod wrote at once, and when.
struct LogPiece {
  uint64_t end = 0;  // in the log, in bytes
  LogTime time;
};

// Where the answer begins: at the last `tail_lines` lines, but not before what is `since_seconds` old. Always at a line's begin.
uint64_t LogBegin(const LogRequest& request, std::string_view log,
                  const std::vector<LogPiece>& pieces, LogTime now);

// The bytes of a log from `begin` on as they are sent, each line after its time if that is asked for. `begin` must not be in the
// middle of a line unless the bytes before it have been sent.
std::string LogText(const LogRequest& request, std::string_view bytes, uint64_t begin,
                    const std::vector<LogPiece>& pieces, bool at_line_begin);

}  // namespace muster::cluster
