#include "tests/sim/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>

namespace muster::sim {

namespace {

using scenario::Move;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A heartbeat timeout, a restart after its backoff, two more changes; and the time for which one that was cut off is not asked again.
constexpr auto kRecoveryTime = seconds(10 + 8);
constexpr auto kEndTime = seconds(90);  // stop_timeout, and what delays it
constexpr int kMany = 10;               // members, from which on a world is big
constexpr int kLongest = 100;           // times that a history is longer than with five members
constexpr uint64_t kOptions = ~uint64_t{0};  // the stream of random numbers that no turn has

scenario::WorldOptions RandomOptions(Dice& dice, const HistoryOptions& history) {
  scenario::WorldOptions options;
  CoordinatorOptions& coordinator = options.coordinator;
  const int fewest = history.fewest != 0        ? history.fewest
                     : history.members >= kMany ? history.members / 2
                                                : 1;
  coordinator.max_workers = dice.Between(fewest, history.members);
  coordinator.min_workers =
      dice.OneIn(2) ? coordinator.max_workers : dice.Between(1, coordinator.max_workers);
  coordinator.kill_limit = coordinator.crash_limit = 1'000'000;
  coordinator.start_timeout = std::chrono::hours(1);
  coordinator.slots_from_platform = history.from_platform;
  options.program.micro_batches = history.members + 1;
  options.program.miss_every = 5;
  options.program.checkpoint_every = dice.OneIn(2) ? 3 : 0;
  options.program.steps = dice.OneIn(3) ? 5 + dice.Below(30) : 1'000'000;
  return options;
}

}  // namespace

class History::RandomWorld : public scenario::World {
 public:
  RandomWorld(const scenario::WorldOptions& options, Dice& dice) : World(options), dice_(dice) {}
  bool SeesDeathFirst(const std::string&) override { return !calm_ && dice_.OneIn(2); }
  void CalmDown() { calm_ = true; }

  // Any of those that are possible, all with the same chance; false if there is none.
  bool MakeAny() {
    for (size_t i = 0; i < places() * 4; ++i) {  // before all of them are looked at
      const auto kind = static_cast<Move::Kind>(dice_.Below(scenario::kKindsOfMoves));
      if (MakeIfPossible(kind, dice_.Below(places()))) return true;
    }
    const std::vector<Move> moves = Moves();
    if (moves.empty()) return false;
    Make(dice_.AnyOf(moves));
    return true;
  }

 private:
  Dice& dice_;
  bool calm_ = false;
};

History::History(const HistoryOptions& options) : options_(options), dice_(options.seed, kOptions) {
  world_ = std::make_unique<RandomWorld>(RandomOptions(dice_, options_), dice_);
  world_->set_tracing(options_.tracing);
  world_->set_coverage(options_.coverage);
  if (options_.from_platform) platform_.emplace(*world_, dice_);
  size_ = std::max(1, options_.members / 5);
  length_ = dice_.Between(100, 600) * std::min(size_, kLongest);
  fault_every_ = (10 + dice_.Below(50)) * static_cast<uint64_t>(size_);
}

History::~History() = default;

std::string History::Trace() { return world_->TakeTrace(); }

std::string History::Play() {
  world_->StartCoordinator();
  // With many, most turns would go by before all of them were there for the first time.
  if (options_.members >= kMany && dice_.OneIn(2)) Recover();
  for (; turns_ < length_ && !Wrong(); ++turns_) {
    if (options_.turns && !options_.turns->contains(turns_)) continue;
    dice_ = Dice(options_.seed, static_cast<uint64_t>(turns_));
    Turn();
  }
  if (!Wrong()) Heal();
  if (!Wrong()) Recover();
  if (!Wrong()) End();
  return wrong_;
}

bool History::Wrong() {
  if (wrong_.empty() && !world_->oracle().violations().empty()) {
    wrong_ = world_->oracle().violations().front();
  }
  if (wrong_.empty() && world_->end() && world_->end()->phase == Phase::kFailed) {
    wrong_ = "the job failed: " + world_->end()->message;
  }
  return !wrong_.empty();
}

// --- Turns --------------------------------------------------------------------------------------------------------------

void History::Turn() {
  std::erase_if(holds_, [this](const Hold& hold) {
    if (hold.until > turns_) return false;
    world_->Release(hold.who, hold.what);
    return true;
  });
  if (whole_at_ <= turns_) world_->Split({});
  if (dice_.OneIn(fault_every_)) return Fault();
  if (platform_ && world_->coordinator_runs() && !world_->end()) platform_->Live(false);
  if (dice_.OneIn(12 * static_cast<uint64_t>(size_)) || !world_->MakeAny()) Pass();
}

// More of it while the network is split, which takes seconds to be noticed.
void History::Pass() {
  const bool long_time = dice_.OneIn(whole_at_ > turns_ ? 3 : 10);
  world_->Pass(milliseconds(long_time ? dice_.Between(500, 4000) : dice_.Between(1, 120)));
}

void History::Fault() {
  if (!world_->coordinator_runs()) return world_->StartCoordinator();
  if (world_->end()) return;
  if (platform_ && dice_.OneIn(3)) return platform_->Fault();
  switch (dice_.Below(12)) {
    case 0:
      return world_->KillCoordinator();
    case 1:
      return world_->KillCoordinatorAfter(dice_.Between(0, 6));
    case 2:
    case 3:
      return Resize();
    case 4:
      return Split();
    case 5:
      if (dice_.OneIn(10)) world_->Tell(StopRequested{false, "asked to stop"});
      return;
    default:
      break;
  }
  const std::vector<std::string> slots = world_->slots();
  if (!slots.empty()) FaultOf(dice_.AnyOf(slots));
}

void History::FaultOf(const std::string& victim) {
  const int kind = dice_.Between(0, 6);
  if (kind == 0) return world_->KillAgent(victim);
  if (kind == 1) return HoldUp(victim);
  if (world_->worker(victim) == nullptr) return;
  if (kind == 2) return world_->Freeze(victim, !world_->frozen(victim));
  if (kind == 3) return world_->DropStream(victim);
  world_->Kill(victim, -1, SIGKILL);
}

// One direction of one of its connections, or a part of it that is slow.
void History::HoldUp(const std::string& victim) {
  static const std::vector<std::vector<std::string>> kParts = {
      {"orders"},
      {"agent"},
      {"agent-orders"},
      {"reports", "heartbeats", "hello"},
      {"compute"},
      {"build"},
      {"enter"},
      {"reduce"},
      {"vote"},
      {"redo"},
      {"pages"},
      {"stream"},
      {"orders", "reports", "heartbeats", "hello"}};
  const int until = turns_ + dice_.Between(5, 120) * size_;
  for (const std::string& what : dice_.AnyOf(kParts)) {
    world_->Hold(victim, what);
    holds_.push_back({until, victim, what});
  }
}

void History::Split() {
  std::set<std::string> side;
  const uint64_t chances = dice_.OneIn(2) ? 2 : static_cast<uint64_t>(options_.members);
  for (const std::string& slot : world_->slots()) {
    if (dice_.OneIn(chances)) side.insert(slot);
  }
  world_->Split(std::move(side));
  whole_at_ = turns_ + dice_.Between(5, 120) * size_;
}

void History::Resize() {
  const int most = options_.members + 1;
  const int high = dice_.Between(1, most);
  const int low = dice_.OneIn(2) ? high : dice_.Between(1, high);
  world_->Tell(ResizeRequested{low, high});
}

// --- After the faults ---------------------------------------------------------------------------------------------------

void History::Heal() {
  if (!world_->coordinator_runs()) world_->StartCoordinator();
  world_->KillCoordinatorAfter(-1);
  world_->CalmDown();
  world_->ReleaseAll();
  world_->Split({});
  for (const std::string& slot : world_->slots()) {
    if (world_->frozen(slot)) world_->Freeze(slot, false);
  }
}

// A piece of time in which everything that can happen does.
void History::Live() {
  world_->Pass(milliseconds(50));
  if (platform_ && world_->end()) platform_->Clear();
  if (platform_ && !world_->end()) platform_->Live(true);
  world_->Rush();
}

// Until all workers that should be there have trained some steps together.
void History::Recover() {
  const TimePoint start = world_->now();
  while (!world_->end() && !world_->durable().stop_requested && !TrainTogether()) {
    if (Wrong()) return;
    if (world_->now() - start > kRecoveryTime) {
      wrong_ = fmt::format("training did not go on: {}", scenario::Text(world_->Status()));
      return;
    }
    Live();
  }
  recovery_time_ = world_->now() - start;
}

bool History::TrainTogether() {
  const auto& active = world_->durable().active;
  if (!active || active->members.size() != static_cast<size_t>(world_->durable().max_workers)) {
    return false;
  }
  uint64_t position = 0;
  for (const Member& member : active->members) {
    const scenario::Worker* worker = world_->worker(member.worker);
    const bool there = worker != nullptr && worker->entered() == active->number &&
                       worker->core().active() == active->number;
    if (!there) return false;
    position = worker->weights().position();
  }
  return position >= 3 + starts_.emplace(active->number, position).first->second;
}

void History::End() {
  if (!world_->end()) world_->Tell(StopRequested{false, "the test ends"});
  const TimePoint start = world_->now();
  while (!world_->end() || !world_->slots().empty()) {
    if (Wrong()) return;
    if (world_->now() - start > kEndTime) {
      wrong_ = world_->end() ? "somebody is left after the end" : "the job does not stop";
      return;
    }
    Live();
  }
}

// Delta debugging (Zeller and Hildebrandt 2002): pieces of what is left are taken away, smaller and smaller ones.
std::set<int> Shrink(HistoryOptions options, int turns) {
  options.tracing = false;
  options.coverage = nullptr;
  std::vector<int> left;
  for (int turn = 0; turn < turns; ++turn) left.push_back(turn);
  const auto goes_wrong = [&](const std::vector<int>& some) {
    options.turns = std::set<int>(some.begin(), some.end());
    return !History(options).Play().empty();
  };
  for (size_t piece = left.size() / 2; piece > 0; piece /= 2) {
    for (bool again = true; again;) {
      again = false;
      for (size_t begin = 0; begin < left.size();) {
        std::vector<int> rest = left;
        const size_t end = std::min(begin + piece, rest.size());
        rest.erase(rest.begin() + static_cast<ptrdiff_t>(begin),
                   rest.begin() + static_cast<ptrdiff_t>(end));
        if (goes_wrong(rest)) {
          left = std::move(rest);
          again = piece == 1;
        } else {
          begin += piece;
        }
      }
    }
  }
  return {left.begin(), left.end()};
}

}  // namespace muster::sim
