// Program: what the simulated members train, and the oracle that knows what must come out of it.
//
// The gradient of a micro-batch is a function of weights, step and micro-batch alone, and gradients add up as integers: so the
// weights at a position do not depend on who was a member, and one training alone says what they must be.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/micro_batches.h"
#include "runtime/core/vote.h"
#include "tests/scenarios/fabric.h"

namespace muster::scenario {

struct Program {
  uint64_t steps = 100;
  int micro_batches = 8;
  uint64_t miss_every =
      0;  // 0: never; else about one position in so many raises its exponents instead of committing
  uint64_t checkpoint_every = 0;  // 0: never; restoring then starts over

  static Weights Initial() { return {0x6d7573746572, 0, 0}; }
  static uint64_t SumOf(const Weights& weights, MicroBatchRange share);
  bool MissesAt(const Weights& weights, int micro_batch) const;
  Vote MakeVote(const Weights& weights, MicroBatchRange share) const;
  static Weights Apply(const Weights& weights, uint64_t sum, const Vote& outcome);
};

// Watches a whole job. What it finds wrong is kept, and said once.
class Oracle {
 public:
  explicit Oracle(const Program& program) : program_(program), path_{Program::Initial()} {}

  void Violate(const std::string& what);
  const std::vector<std::string>& violations() const { return violations_; }
  // From here on the weights of some member are wrong on purpose.
  void StopCheckingWeights() { check_weights_ = false; }

  // A generation was heard of: one number, one membership.
  void Heard(const Generation& generation);
  // What the members of a generation told each other when they met. `fresh`: comes straight from the generation before.
  void Entering(const std::string& worker, const Generation& generation, const Entry& entry,
                bool fresh);
  // A member has caught up: all of a generation must agree.
  void Synced(const std::string& worker, uint64_t generation, const Weights& weights, bool done);
  // A member has applied the outcome of a vote.
  void Applied(const std::string& worker, uint64_t generation, const Weights& after);
  // The weights were filled from a checkpoint, or from the start, because nobody held any.
  void Restored() { forgotten_ = true; }

  const Weights& At(uint64_t position);
  uint64_t furthest() const { return furthest_; }

 private:
  struct Start {
    Weights weights;
    bool done = false;
  };
  const Program program_;
  std::vector<Weights> path_;  // by position
  std::map<uint64_t, Generation> memberships_;
  std::map<uint64_t, Start> starts_;
  std::map<uint64_t, std::map<std::string, uint64_t>> fresh_positions_;  // by generation
  std::map<uint64_t, uint64_t> held_;  // by generation: the furthest position that somebody brought
  uint64_t furthest_ = 0;
  bool forgotten_ = false;
  bool check_weights_ = true;
  std::vector<std::string> violations_;
};

}  // namespace muster::scenario
