#include "launcher/rendezvous/state_json.h"

#include <limits>

#include "launcher/job/job.h"
#include "runtime/rpc/convert.h"

namespace muster {
namespace {

using nlohmann::json;

json ToJson(const std::optional<Generation>& generation) {
  if (!generation) return nullptr;
  json members = json::array();
  for (const Member& member : generation->members) {
    members.push_back({{"worker", member.worker},
                       {"incarnation", member.incarnation},
                       {"address", member.address}});
  }
  return {{"number", generation->number}, {"members", std::move(members)}};
}

std::optional<Generation> GenerationFromJson(const json& object) {
  if (object.is_null()) return std::nullopt;
  Generation generation{object.at("number").get<uint64_t>(), {}};
  for (const json& member : object.at("members")) {
    generation.members.push_back({member.at("worker").get<std::string>(),
                                  member.at("incarnation").get<uint64_t>(),
                                  member.at("address").get<std::string>()});
  }
  return generation;
}

template <typename Number>
void ReadNumber(const json& object, const char* field, int64_t low, int64_t high, Number& number) {
  const json& value = object.at(field);
  const bool whole = value.is_number_integer();
  const auto found = whole ? value.get<int64_t>() : 0;
  if (!whole || found < low || found > high) {
    const std::string shown = value.is_number() ? value.dump() : value.type_name();
    throw json::other_error::create(
        501, fmt::format("{} is {}, it must be {} to {}", field, shown, low, high), nullptr);
  }
  number = static_cast<Number>(found);
}

}  // namespace

json ToJson(const CoordinatorState& state) {
  return {{"last_generation", state.last_generation},
          {"active", ToJson(state.active)},
          {"proposed", ToJson(state.proposed)},
          {"min_workers", state.min_workers},
          {"max_workers", state.max_workers},
          {"slots", state.slots},
          {"dismissed", state.dismissed},
          {"started", state.started},
          {"stop_requested", state.stop_requested},
          {"stop_reason", state.stop_reason},
          {"generations", state.generations},
          {"best_step", state.best_step},
          {"total_steps", state.total_steps},
          {"micro_batches", state.micro_batches},
          {"batch_size", state.batch_size}};
}

CoordinatorState StateFromJson(const json& object) {
  CoordinatorState state;
  ReadNumber(object, "last_generation", 0, std::numeric_limits<int64_t>::max(),
             state.last_generation);
  state.active = GenerationFromJson(object.at("active"));
  state.proposed = GenerationFromJson(object.at("proposed"));
  ReadNumber(object, "max_workers", 1, kMaxWorkers, state.max_workers);
  ReadNumber(object, "min_workers", 1, state.max_workers, state.min_workers);
  object.at("slots").get_to(state.slots);
  object.at("dismissed").get_to(state.dismissed);
  object.at("started").get_to(state.started);
  object.at("stop_requested").get_to(state.stop_requested);
  object.at("stop_reason").get_to(state.stop_reason);
  object.at("generations").get_to(state.generations);
  object.at("best_step").get_to(state.best_step);
  object.at("total_steps").get_to(state.total_steps);
  ReadNumber(object, "micro_batches", 0, kMaxMicroBatches, state.micro_batches);
  ReadNumber(object, "batch_size", 0, kMaxBatchSize, state.batch_size);
  return state;
}

}  // namespace muster
