// Platform: pods that come late or never, are taken away with notice or without, and never come twice.
//
// Threading: none.
#pragma once

#include <map>
#include <string>

#include "tests/scenarios/world.h"
#include "tests/sim/dice.h"

namespace muster::sim {

class Platform {
 public:
  Platform(scenario::World& world, Dice& dice) : world_(world), dice_(dice) {}

  // Time goes by: pods are made and end, and the coordinator hears of it, late unless `at_once`; a restarted one hears it anew.
  void Live(bool at_once);
  // All of them are gone.
  void Clear();
  // One is evicted, or vanishes.
  void Fault();

 private:
  void ForgetEnded();
  void Settle();
  void RemoveLeaving();
  void Remove(const std::string& pod);
  void Offer();

  scenario::World& world_;
  Dice& dice_;
  std::map<std::string, bool, scenario::BySlotNumber> pods_;  // leaving or not
  int next_ = 0;
};

}  // namespace muster::sim
