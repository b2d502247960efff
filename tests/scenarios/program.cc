#include "tests/scenarios/program.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::scenario {

namespace {

// A finaliser with full avalanche (the constants are those of MurmurHash3), over a running value.
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a ^ (b * 0x9e3779b97f4a7c15 + 0x7f4a7c15);
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccd;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53;
  return x ^ (x >> 33);
}

}  // namespace

uint64_t Program::SumOf(const Weights& weights, MicroBatchRange share) {
  uint64_t sum = 0;
  for (int m = share.begin; m < share.end; ++m) sum += Mix(weights.hash, static_cast<uint64_t>(m));
  return sum;
}

bool Program::MissesAt(const Weights& weights, int micro_batch) const {
  return miss_every != 0 && micro_batch == 0 && Mix(weights.hash, 77) % miss_every == 0;
}

Vote Program::MakeVote(const Weights& weights, MicroBatchRange share) const {
  Vote vote(micro_batches, 0);
  vote.SetStep(weights.step);
  for (int m = share.begin; m < share.end; ++m) {
    vote.SetLoss(m, 1.0 / static_cast<double>(weights.step + static_cast<uint64_t>(m) + 1));
    if (MissesAt(weights, m)) vote.SetMiss();
  }
  return vote;
}

Weights Program::Apply(const Weights& weights, uint64_t sum, const Vote& outcome) {
  if (outcome.miss()) return {Mix(weights.hash, 1), weights.step, weights.misses + 1};
  return {Mix(Mix(weights.hash, sum), 2), weights.step + 1, weights.misses};
}

void Oracle::Violate(const std::string& what) {
  if (std::ranges::find(violations_, what) == violations_.end()) violations_.push_back(what);
}

void Oracle::Heard(const Generation& generation) {
  const auto [known, first] = memberships_.emplace(generation.number, generation);
  if (!first && !(known->second == generation)) {
    Violate(fmt::format("generation {} was given to two memberships", generation.number));
  }
}

void Oracle::Entering(const std::string& worker, const Generation& generation, const Entry& entry,
                      bool fresh) {
  if (entry.has_state == 0) return;
  uint64_t& held = held_[generation.number];
  held = std::max(held, entry.position);
  if (!fresh || forgotten_) return;
  auto& positions = fresh_positions_[generation.number];
  positions[worker] = entry.position;
  const auto [low, high] =
      std::ranges::minmax_element(positions, {}, [](const auto& p) { return p.second; });
  if (high->second - low->second > 1) {
    Violate(fmt::format("on entry to generation {}, {} is at position {} and {} at {}",
                        generation.number, low->first, low->second, high->first, high->second));
  }
}

void Oracle::Synced(const std::string& worker, uint64_t generation, const Weights& weights,
                    bool done) {
  if (weights.position() < held_[generation]) {
    Violate(fmt::format("generation {} starts at position {}, although {} was committed",
                        generation, weights.position(), held_[generation]));
  }
  const auto [start, first] = starts_.emplace(generation, Start{weights, done});
  if (first || (start->second.weights == weights && start->second.done == done)) return;
  Violate(fmt::format(
      "the members of generation {} start from different states: {} from position {} (done {}), "
      "another one from {} (done {})",
      generation, worker, weights.position(), done, start->second.weights.position(),
      start->second.done));
}

void Oracle::Applied(const std::string& worker, uint64_t generation, const Weights& after) {
  furthest_ = std::max(furthest_, after.position());
  if (!check_weights_ || after == At(after.position())) return;
  Violate(
      fmt::format("{} in generation {} has other weights at position {} than training alone gives",
                  worker, generation, after.position()));
}

const Weights& Oracle::At(uint64_t position) {
  const MicroBatchRange all{0, program_.micro_batches};
  while (path_.size() <= position) {
    const Weights& last = path_.back();
    path_.push_back(Program::Apply(last, Program::SumOf(last, all), program_.MakeVote(last, all)));
  }
  return path_[position];
}

}  // namespace muster::scenario
