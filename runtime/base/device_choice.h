// DeviceChoice: what a worker shall compute on, as users say it with --device.
//
// Threading: plain values.
#pragma once

#include <optional>
#include <string_view>

namespace muster {

// For messages: what Parse() takes.
inline constexpr std::string_view kDeviceChoices = "auto, cpu, cuda or cuda:N";

// Auto: a GPU if there is one that the program can train on.
struct DeviceChoice {
  enum class Kind { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  int ordinal = -1;  // of the GPU; -1: by the number at the end of the worker's id

  // Of "auto", "cpu", "cuda" or "cuda:3". Nothing: it is none of these.
  static std::optional<DeviceChoice> Parse(std::string_view text);
};

}  // namespace muster
