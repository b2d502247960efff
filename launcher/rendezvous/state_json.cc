#include "launcher/rendezvous/state_json.h"

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
  object.at("last_generation").get_to(state.last_generation);
  state.active = GenerationFromJson(object.at("active"));
  state.proposed = GenerationFromJson(object.at("proposed"));
  object.at("min_workers").get_to(state.min_workers);
  object.at("max_workers").get_to(state.max_workers);
  object.at("slots").get_to(state.slots);
  object.at("dismissed").get_to(state.dismissed);
  object.at("started").get_to(state.started);
  object.at("stop_requested").get_to(state.stop_requested);
  object.at("stop_reason").get_to(state.stop_reason);
  object.at("generations").get_to(state.generations);
  object.at("best_step").get_to(state.best_step);
  object.at("total_steps").get_to(state.total_steps);
  object.at("micro_batches").get_to(state.micro_batches);
  object.at("batch_size").get_to(state.batch_size);
  return state;
}

}  // namespace muster
