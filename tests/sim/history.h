// History: one random life of a whole job. In each turn anything that can happen next may, or something is killed, frozen, cut off,
// held up, split or resized. After each turn the oracle's invariants must hold; when the faults stop, training must go on within a
// bounded time, and the job must end.
//
// What happens in a turn is a function of the seed, the turn's number and the state of the world. So turns can be left out, and what is
// left is a history too: that is how Shrink() finds a short one that goes wrong as well.
//
// Threading: none.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/scenarios/world.h"
#include "tests/sim/dice.h"
#include "tests/sim/platform.h"

namespace muster::sim {

struct HistoryOptions {
  uint64_t seed = 1;
  bool from_platform = false;
  int members = 5;  // at most
  int fewest = 0;   // that the job begins with; 0: one, or half of `members` if those are many
  bool tracing = false;
  scenario::Coverage* coverage = nullptr;
  std::optional<std::set<int>> turns;  // the only ones that are taken
};

class History {
 public:
  explicit History(const HistoryOptions& options);
  History(const History&) = delete;
  History& operator=(const History&) = delete;
  ~History();

  // What is wrong; empty if nothing. To be called once.
  std::string Play();

  std::string Trace();
  int turns() const { return turns_; }  // taken or left out, until something was wrong
  Duration recovery_time() const { return recovery_time_; }

 private:
  class RandomWorld;
  struct Hold {
    int until = 0;  // the turn
    std::string who, what;
  };

  bool Wrong();
  void Turn();
  void Pass();
  void Fault();
  void FaultOf(const std::string& victim);
  void HoldUp(const std::string& victim);
  void Split();
  void Resize();
  void Heal();
  void Live();
  void Recover();
  bool TrainTogether();
  void End();

  const HistoryOptions options_;
  Dice dice_;  // of the turn
  std::unique_ptr<RandomWorld> world_;
  std::optional<Platform> platform_;
  int size_ = 1;  // how much longer everything takes than in a world of five
  int length_ = 0;
  int turns_ = 0;
  uint64_t fault_every_ = 0;
  std::vector<Hold> holds_;
  int whole_at_ = 0;                     // the turn in which the network is whole again
  std::map<uint64_t, uint64_t> starts_;  // by generation: the position at which all were there
  std::string wrong_;
  Duration recovery_time_{};
};

// The turns that are left when all are taken away without which the history of `options` goes wrong too: of `turns` that do.
std::set<int> Shrink(HistoryOptions options, int turns);

}  // namespace muster::sim
