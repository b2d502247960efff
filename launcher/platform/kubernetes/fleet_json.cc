#include "launcher/platform/kubernetes/fleet_json.h"

#include <climits>
#include <nlohmann/json.hpp>

#include "launcher/platform/kubernetes/names.h"

namespace muster::fleet {
namespace {

using Json = nlohmann::ordered_json;

tl::unexpected<Error> Bad(std::string_view key, const char* wanted) {
  return WithHint(Err(Code::kDataLoss, "the state of the fleet: {} {}", key, wanted),
                  "somebody has edited the run's ConfigMap, or another version of Muster wrote it");
}

Result<int64_t> NumberOf(const Json& value, const std::string& key, int64_t high) {
  if (!value.is_number_integer()) return Bad(key, "is no whole number");
  // An unsigned one beyond the range would turn up as a negative one.
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(high)) {
    return Bad(key, "is out of range");
  }
  const auto number = value.get<int64_t>();
  if (number < 0 || number > high) return Bad(key, "is out of range");
  return number;
}

Status ReadKey(const std::string& key, const Json& value, FleetSaved& saved) {
  if (key == "serials") {
    if (!value.is_object()) return Bad(key, "is no object");
    for (const auto& [pool, serial] : value.items()) {
      MUSTER_ASSIGN(saved.serials[pool],
                    NumberOf(serial, "serials." + pool, kubernetes::kMaxSerial));
    }
  } else if (key == "started") {
    if (!value.is_boolean()) return Bad(key, "is neither true nor false");
    saved.started = value.get<bool>();
  } else if (key == "gang_failures") {
    MUSTER_ASSIGN(const int64_t failures, NumberOf(value, key, INT_MAX));
    saved.gang_failures = static_cast<int>(failures);
  } else {
    return Bad(key, "is unknown");
  }
  return {};
}

// Messages of others may be cut in the middle of a character.
std::string Text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string ToJson(const FleetSaved& saved) {
  Json serials = Json::object();
  for (const auto& [pool, serial] : saved.serials) serials[pool] = serial;
  return Text(
      {{"serials", serials}, {"started", saved.started}, {"gang_failures", saved.gang_failures}});
}

Result<FleetSaved> FleetSavedFromJson(std::string_view text) {
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Bad("it", "is no JSON object");
  FleetSaved saved;
  for (const auto& [key, value] : object.items()) MUSTER_TRY(ReadKey(key, value, saved));
  for (const char* key : {"serials", "started", "gang_failures"}) {
    if (!object.contains(key)) return Bad(key, "is missing");
  }
  return saved;
}

std::string ToJson(const FleetStatus& status, const std::vector<std::string>& faults) {
  Json pools = Json::array();
  for (const PoolStatus& pool : status.pools) {
    pools.push_back({{"name", pool.name},
                     {"min", pool.min},
                     {"max", pool.max},
                     {"running", pool.running},
                     {"waiting", pool.waiting},
                     {"leaving", pool.leaving},
                     {"members", pool.members},
                     {"note", pool.note}});
  }
  Json waiting = Json::array();
  for (const WaitingPod& pod : status.waiting) {
    waiting.push_back({{"pod", pod.pod}, {"why", pod.sentence}});
  }
  return Text({{"phase", status.phase},
               {"gang_failures", status.gang_failures},
               {"pools", std::move(pools)},
               {"waiting", std::move(waiting)},
               {"message", status.message},
               {"faults", faults}});
}

}  // namespace muster::fleet
