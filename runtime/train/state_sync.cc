#include "runtime/train/state_sync.h"

#include <algorithm>
#include <array>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/bytes.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/core/recovery.h"

namespace muster {

namespace {

using Action = RecoveryPlan::Action;

// Pages between one donor and one joiner in one exchange: bounds what is lost when a peer dies.
constexpr size_t kPagesPerRound = 16;

// Of a program's description (StepEngine::program), as one member tells it to the others.
using ProgramText = std::array<char, 1024>;

// "seed 1, seed 2": the first line in which two descriptions differ.
std::string FirstDifference(const ProgramText& first, const ProgramText& second) {
  std::istringstream lines[] = {std::istringstream(first.data()),
                                std::istringstream(second.data())};
  std::string of_first;
  std::string of_second;
  while (of_first == of_second && std::getline(lines[0], of_first)) {
    std::getline(lines[1], of_second);
  }
  return of_first + ", " + of_second;
}

// What to say of a world with different programs, which all its members know it to be.
Error OfDifferentPrograms(Communicator& communicator, const StepEngine& engine, size_t other) {
  ProgramText mine = {};
  engine.program().copy(mine.data(), mine.size() - 1);
  std::vector<ProgramText> all(static_cast<size_t>(communicator.size()));
  if (Status exchanged =
          communicator.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all)));
      !exchanged) {
    return exchanged.error();
  }
  return {Code::kInvalidArgument,
          fmt::format("rank {} and rank {} run different programs: {}", communicator.rank(), other,
                      FirstDifference(mine, all[other])),
          "all workers of a job must be the same program with the same flags, on the same kind of "
          "device"};
}

Result<std::vector<Entry>> ExchangeEntries(Communicator& communicator, const StepEngine& engine,
                                           const Holding& holding) {
  Entry mine;
  mine.program = engine.program_hash();
  mine.has_state = holding.has_state ? 1 : 0;
  mine.position = holding.has_state ? engine.position() : 0;
  mine.done = holding.done ? 1 : 0;
  if (holding.has_state) {
    mine.reduced_at = engine.reduced_at().value_or(Entry::kNone);
    mine.outcome_of = engine.outcome_of().value_or(Entry::kNone);
  }
  std::vector<Entry> entries(static_cast<size_t>(communicator.size()));
  MUSTER_TRY(communicator.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(entries))));
  for (size_t rank = 0; rank < entries.size(); ++rank) {
    if (entries[rank].program == mine.program) continue;
    return tl::unexpected(OfDifferentPrograms(communicator, engine, rank));
  }
  return entries;
}

Status Redo(Communicator& communicator, StepEngine& engine, const RecoveryPlan& plan, Action mine,
            SyncOutcome& outcome) {
  if (mine != Action::kRedo) {
    // Everybody takes part in the broadcast; only those who redo keep what they receive.
    Vote copy = engine.outcome();
    return communicator.Broadcast(std::as_writable_bytes(copy.lanes()), plan.outcome_from);
  }
  MUSTER_TRY(
      communicator.Broadcast(std::as_writable_bytes(engine.outcome().lanes()), plan.outcome_from));
  (void)Failpoint("sync.redo");
  engine.AdoptOutcome();
  outcome.redone = true;
  MUSTER_TRY(engine.ApplyOutcome());
  return {};
}

// Which pages every member still needs, one byte a page.
Result<std::vector<std::byte>> ExchangeNeeds(Communicator& communicator, const State& state,
                                             const RecoveryPlan& plan, Action mine) {
  const size_t pages = state.pages();
  std::vector<std::byte> needs(pages, std::byte{0});
  if (mine == Action::kTransfer) {
    for (size_t page = 0; page < pages; ++page) {
      needs[page] = std::byte{state.page_version(page) != plan.target};
    }
  }
  std::vector<std::byte> all(pages * static_cast<size_t>(communicator.size()));
  MUSTER_TRY(communicator.AllGather(needs, all));
  return all;
}

// The pages that `donor` sends to `joiner`, in order.
std::vector<size_t> PagesBetween(std::span<const std::byte> needs, size_t pages, int donor,
                                 int joiner, std::span<const int> donors) {
  std::vector<size_t> list;
  size_t index = 0;
  for (size_t page = 0; page < pages; ++page) {
    if (needs[static_cast<size_t>(joiner) * pages + page] == std::byte{0}) continue;
    if (DonorOf(index++, joiner, donors) == donor) list.push_back(page);
  }
  return list;
}

struct Lane {  // of pages between this member and one other
  int peer = 0;
  std::vector<size_t> pages;
  std::vector<Hash128> hashes;
};

std::span<const size_t> RoundOf(const Lane& lane, size_t round) {
  const size_t first = std::min(round * kPagesPerRound, lane.pages.size());
  const size_t count = std::min(kPagesPerRound, lane.pages.size() - first);
  return std::span(lane.pages).subspan(first, count);
}

Status SendAndReceiveRound(Communicator& communicator, State& state, std::vector<Lane>& sends,
                           std::vector<Lane>& receives, size_t round, uint64_t target) {
  std::vector<SendTo> out;
  std::vector<ReceiveFrom> in;
  for (Lane& lane : sends) {
    const auto pages = RoundOf(lane, round);
    lane.hashes.resize(pages.size());
    for (size_t i = 0; i < pages.size(); ++i) {
      lane.hashes[i] = HashBytes(state.page(pages[i]));
      out.push_back({lane.peer, BytesOf(lane.hashes[i])});
      out.push_back({lane.peer, state.page(pages[i])});
    }
  }
  for (Lane& lane : receives) {
    const auto pages = RoundOf(lane, round);
    lane.hashes.resize(pages.size());
    for (size_t i = 0; i < pages.size(); ++i) {
      in.push_back({lane.peer, WritableBytesOf(lane.hashes[i])});
      in.push_back({lane.peer, state.page(pages[i])});
      state.set_page_version(pages[i], UINT64_MAX);  // neither old nor new while it arrives
    }
  }
  if (!out.empty()) (void)Failpoint("sync.page_sent");
  MUSTER_TRY(communicator.Exchange(out, in));
  if (!in.empty()) (void)Failpoint("sync.page_received");
  for (const Lane& lane : receives) {
    const auto pages = RoundOf(lane, round);
    for (size_t i = 0; i < pages.size(); ++i) {
      if (HashBytes(state.page(pages[i])) != lane.hashes[i]) {
        return Err(Code::kDataLoss, "page {} arrived damaged from rank {}", pages[i], lane.peer);
      }
      state.set_page_version(pages[i], target);
    }
  }
  return {};
}

Status Transfer(Communicator& communicator, StepEngine& engine, const RecoveryPlan& plan,
                Action mine, Holding& holding, SyncOutcome& outcome) {
  State& state = engine.state();
  MUSTER_ASSIGN(const std::vector<std::byte> needs, ExchangeNeeds(communicator, state, plan, mine));
  const int me = communicator.rank();
  const bool donor = std::ranges::find(plan.donors, me) != plan.donors.end();
  std::vector<Lane> sends;
  std::vector<Lane> receives;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    if (donor)
      sends.push_back({rank, PagesBetween(needs, state.pages(), me, rank, plan.donors), {}});
  }
  if (mine == Action::kTransfer) {
    holding.has_state = false;
    engine.ForgetStep();
    for (const int from : plan.donors) {
      receives.push_back({from, PagesBetween(needs, state.pages(), from, me, plan.donors), {}});
    }
  }
  size_t rounds = 0;
  for (const auto* lanes : {&sends, &receives}) {
    for (const Lane& lane : *lanes) {
      rounds = std::max(rounds, (lane.pages.size() + kPagesPerRound - 1) / kPagesPerRound);
      if (lanes == &receives) outcome.pages_received += lane.pages.size();
    }
  }
  if (donor) MUSTER_TRY(engine.FetchState());
  for (size_t round = 0; round < rounds; ++round) {
    MUSTER_TRY(SendAndReceiveRound(communicator, state, sends, receives, round, plan.target));
  }
  if (mine == Action::kTransfer) {
    if (engine.position() != plan.target) {
      return Err(Code::kInternal, "pulled the state of position {}, found position {} in it",
                 plan.target, engine.position());
    }
    MUSTER_TRY(engine.PushState());
    holding.has_state = true;
  }
  return {};
}

}  // namespace

Result<SyncOutcome> SyncState(Communicator& communicator, StepEngine& engine, Holding& holding,
                              const std::function<Status()>& restore) {
  SyncOutcome outcome;
  const auto me = static_cast<size_t>(communicator.rank());
  MUSTER_ASSIGN(std::vector<Entry> entries, ExchangeEntries(communicator, engine, holding));
  (void)Failpoint("sync.entries");
  RecoveryPlan plan = PlanRecovery(entries);
  if (plan.Any(Action::kInitialize)) {
    if (plan.actions[me] == Action::kInitialize) {
      MUSTER_TRY(restore());
      holding.has_state = true;
    }
    MUSTER_ASSIGN(entries, ExchangeEntries(communicator, engine, holding));
    plan = PlanRecovery(entries);
  }
  if (plan.Any(Action::kRedo)) {
    MUSTER_TRY(Redo(communicator, engine, plan, plan.actions[me], outcome));
  }
  if (plan.Any(Action::kTransfer)) {
    MUSTER_TRY(Transfer(communicator, engine, plan, plan.actions[me], holding, outcome));
  }
  holding.done = plan.done;
  log::debug("generation={} rank={} synced reason=\"{}\" pages={} redone={}",
             communicator.generation(), me, plan.reason, outcome.pages_received, outcome.redone);
  return outcome;
}

}  // namespace muster
