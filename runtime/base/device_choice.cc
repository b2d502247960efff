#include "runtime/base/device_choice.h"

#include <charconv>

namespace muster {

std::optional<DeviceChoice> DeviceChoice::Parse(std::string_view text) {
  constexpr std::string_view kNumbered = "cuda:";
  if (text == "auto") return DeviceChoice{Kind::kAuto};
  if (text == "cpu") return DeviceChoice{Kind::kCpu};
  if (text == "cuda") return DeviceChoice{Kind::kCuda};
  if (!text.starts_with(kNumbered)) return {};
  text.remove_prefix(kNumbered.size());
  DeviceChoice choice{Kind::kCuda};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), choice.ordinal);
  if (error != std::errc() || end != text.data() + text.size() || choice.ordinal < 0) return {};
  return choice;
}

}  // namespace muster
