// What can happen next in a world, and what it is like when it does.
#include <algorithm>

#include "tests/scenarios/world.h"

namespace muster::scenario {

namespace {

constexpr auto kHeartbeat = std::chrono::milliseconds(100);
constexpr int kMostRounds = 10'000;  // of everything that can happen at one moment

const char* HoldName(Move::Kind kind) {
  switch (kind) {
    case Move::Kind::kAgentEvent:
      return "agent";
    case Move::Kind::kStreamLost:
      return "stream";
    case Move::Kind::kReport:
      return "reports";
    case Move::Kind::kHello:
      return "hello";
    case Move::Kind::kOrder:
      return "orders";
    case Move::Kind::kAgentOrder:
      return "agent-orders";
    case Move::Kind::kBuild:
      return "build";
    case Move::Kind::kProceed:
      return "trainer";
    case Move::Kind::kCompute:
      return "compute";
    case Move::Kind::kSpawn:
      return "spawn";
  }
  return "?";
}

}  // namespace

bool World::Held(const std::string& who, const std::string& what) const {
  if (held_.empty()) return false;
  const auto found = held_.find(who);
  return found != held_.end() && found->second.contains(what);
}

bool World::Divided(const Generation& generation) const {
  if (side_.empty()) return false;
  const auto [divided, first] = divided_.emplace(generation.number, false);
  if (first) {
    const auto inside = [this](const Member& member) { return side_.contains(member.worker); };
    divided->second = std::ranges::any_of(generation.members, inside) &&
                      !std::ranges::all_of(generation.members, inside);
  }
  return divided->second;
}

bool World::Silent(const std::string& from, const std::string& to) const {
  return frozen(from) || side_.contains(from) != side_.contains(to);
}

bool World::CanMake(Move::Kind kind, const Place& place) const {
  const auto& [who, slot] = place;
  return Possible(kind, who, slot) && !Held(who, HoldName(kind));
}

bool World::Possible(Move::Kind kind, const std::string& who, const Slot& slot) const {
  const bool process = slot.process && !slot.process->frozen;
  switch (kind) {
    case Move::Kind::kAgentEvent:
      return coordinator_ && !slot.events.empty();
    case Move::Kind::kStreamLost:
      return std::ranges::any_of(lost_streams_,
                                 [&](const auto& lost) { return lost.worker == who; });
    case Move::Kind::kReport:
      return coordinator_ && process && slot.process->connected && !slot.process->reports.empty();
    case Move::Kind::kHello:
      return coordinator_ && process && !slot.process->connected &&
             !slot.process->worker->core().released();
    case Move::Kind::kOrder:
      return process && !slot.process->orders.empty();
    case Move::Kind::kAgentOrder:
      return slot.agent && !slot.orders.empty();
    case Move::Kind::kBuild:
      return process && slot.process->worker->CanBuild();
    case Move::Kind::kProceed:
      return process && slot.process->worker->CanProceed();
    case Move::Kind::kCompute:
      return process && slot.process->worker->computing();
    case Move::Kind::kSpawn:
      return slot.wanted && !slot.agent &&
             !(options_.coordinator.slots_from_platform && WasSpawned(who));
  }
  return false;
}

std::vector<Move> World::Moves() const {
  std::vector<Move> moves;
  for (int kind = 0; kind < kKindsOfMoves; ++kind) {
    for (const Place& place : slots_) {
      if (CanMake(static_cast<Move::Kind>(kind), place))
        moves.push_back({static_cast<Move::Kind>(kind), place.first});
    }
  }
  return moves;
}

void World::Make(const Move& move) { Make(move.kind, *slots_.find(move.who)); }

bool World::MakeIfPossible(Move::Kind kind, size_t place) {
  if (!CanMake(kind, *places_[place])) return false;
  Make(kind, *places_[place]);
  return true;
}

void World::Make(Move::Kind kind, Place& place) {
  auto& [who, slot] = place;
  switch (kind) {
    case Move::Kind::kAgentEvent: {
      // Acknowledged only when all that follows from it is done: a new coordinator hears it again.
      Tell(CoordinatorEvent(slot.events.front()));
      if (coordinator_) slot.events.pop_front();
      return;
    }
    case Move::Kind::kStreamLost: {
      const auto lost = std::ranges::find(lost_streams_, who, &WorkerStreamLost::worker);
      const WorkerStreamLost event = *lost;
      lost_streams_.erase(lost);
      return Tell(event);
    }
    case Move::Kind::kReport: {
      const Report report = slot.process->reports.front();
      Tell(WorkerReported{report});
      if (!coordinator_) return;
      slot.process->reports.pop_front();
      if (report.kind == Report::Kind::kFinished) slot.process->finished = report;
      return;
    }
    case Move::Kind::kHello:
      return Register(slot);
    case Move::Kind::kOrder: {
      const Order order = slot.process->orders.front();
      slot.process->orders.pop_front();
      return slot.process->worker->OnOrder(order);
    }
    case Move::Kind::kAgentOrder:
      return Obey(slot, who);
    case Move::Kind::kBuild:
      return slot.process->worker->Build();
    case Move::Kind::kProceed:
      slot.process->worker->Proceed();
      break;
    case Move::Kind::kCompute:
      slot.process->worker->EndCompute();
      break;
    case Move::Kind::kSpawn:
      return Spawn(who);
  }
  if (slot.process->exiting) EndProcess(who, *slot.process->exiting, 0);
}

void World::Register(Slot& slot) {
  Process& process = *slot.process;
  // A new stream replaces the old one, whose end then says nothing any more.
  std::erase_if(lost_streams_, [&](const auto& lost) {
    return lost.worker == process.worker->id() && lost.incarnation == process.worker->incarnation();
  });
  process.connected = true;
  if (process.finished) process.reports.push_front(*process.finished);
  Tell(WorkerHello{process.worker->MakeHello()});
}

void World::Obey(Slot& slot, const std::string& who) {
  const SendAgent order = slot.orders.front();
  slot.orders.pop_front();
  switch (order.kind) {
    case SendAgent::Kind::kRestartWorker:
      return Do(who, slot.agent->RestartWorker(now_));
    case SendAgent::Kind::kShutDown:
      return Do(who, slot.agent->ShutDown(now_));
    case SendAgent::Kind::kShutDownNow:
      return Do(who, slot.agent->ShutDownNow());
  }
}

void World::Progress(Slot& slot) {
  const Process& process = *slot.process;
  if (process.frozen || !process.connected || !process.reports.empty()) return;
  if (Held(process.worker->id(), "heartbeats")) return;
  Tell(WorkerReported{process.worker->MakeProgress()});
}

void World::Settle() {
  for (std::vector<Move> moves = Moves();
       !moves.empty() && moves.front().kind <= Move::Kind::kAgentOrder; moves = Moves()) {
    Make(moves.front());
  }
}

void World::Rush() {
  int rounds = 0;
  for (bool moved = true; moved;) {
    moved = false;
    if (++rounds > kMostRounds) {
      return oracle_.Violate("something happens again and again, although no time passes");
    }
    for (int kind = 0; kind < kKindsOfMoves; ++kind) {
      // Computing takes time: once in a rush.
      if (static_cast<Move::Kind>(kind) == Move::Kind::kCompute) continue;
      for (size_t i = 0; i < places(); ++i) {  // there may be more of them meanwhile
        moved |= MakeIfPossible(static_cast<Move::Kind>(kind), i);
      }
    }
  }
  for (size_t i = 0; i < places(); ++i) MakeIfPossible(Move::Kind::kCompute, i);
}

void World::Deliver() {
  Settle();
  for (auto& [who, slot] : slots_) {
    if (slot.process) Progress(slot);
  }
  Settle();
}

void World::Pass(Duration time) {
  now_ += time;
  for (auto& [who, slot] : slots_) {
    if (slot.agent) Do(who, slot.agent->Tick(now_));
  }
  if (now_ >= next_heartbeat_) {
    next_heartbeat_ = now_ + kHeartbeat;
    for (auto& [who, slot] : slots_) {
      if (slot.process) Progress(slot);
    }
  }
  Tell(Tick{});
}

}  // namespace muster::scenario
