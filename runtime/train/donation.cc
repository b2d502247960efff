#include "runtime/train/donation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/bytes.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/hash.h"
#include "runtime/base/low_priority.h"

namespace muster {

namespace {

// For the copies of a round: a part of the state, so that those of a large one take no more rounds.
constexpr size_t kStripMemory = 32 << 20;
constexpr size_t kStateInStripMemory = 8;

size_t LargestStrip(const Strips& strips) {
  size_t largest = 0;
  for (size_t i = 0; i < strips.count(); ++i) largest = std::max(largest, strips.bytes(i));
  return largest;
}

}  // namespace

DonorMemory::DonorMemory(Backend& backend, StepEngine& engine)
    : backend_(backend),
      engine_(engine),
      sums_bytes_(engine.sums().size()),
      strips_bytes_(std::max({LargestStrip(engine.strips()),
                              std::min(kStripMemory, engine.state().image().size()),
                              engine.state().image().size() / kStateInStripMemory})) {}

Status DonorMemory::Prepare() {
  Status allocated;
  const bool complete = spares.size() >= Donation::kRoundsInFlight && !strips.empty();
  if (!complete) RunAtLowPriority([&] { allocated = Allocate(); });
  return allocated;
}

Status DonorMemory::Allocate() {
  const auto allocate = [this](size_t bytes) -> Result<std::span<std::byte>> {
    MUSTER_ASSIGN(std::span<std::byte> memory, backend_.Allocate(bytes));
    std::memset(memory.data(), 0, memory.size());
    return memory.first(bytes);
  };
  while (spares.size() < Donation::kRoundsInFlight) {
    MUSTER_ASSIGN(spares.emplace_back(), allocate(sums_bytes_));
    pins_.push_back(engine_.Pin(spares.back()));
  }
  if (strips.empty()) {
    MUSTER_ASSIGN(strips, allocate(strips_bytes_));
  }
  return {};
}

Donation::Donation(Communicator& communicator, StepEngine& engine, DonorMemory& memory,
                   std::vector<int> joiners, size_t index, size_t donors)
    : communicator_(communicator), engine_(engine), memory_(memory), joiners_(std::move(joiners)) {
  for (size_t strip = index; strip < engine.strips().count(); strip += donors) {
    own_.push_back(strip);
  }
}

// --- The trainer's side -----------------------------------------------------------------------------------------------------

Status Donation::Give(double step_seconds, bool last) {
  std::lock_guard lock(mutex_);
  step_seconds_ = step_seconds;
  if (ended_ || too_slow_) return {};
  Round round{.record = engine_.record()};
  const bool sums = given_ > 0 && round.record.applied == StepEngine::Applied::kCommitted;
  if (rounds_.size() >= kRoundsInFlight || MonotonicNow() > deadline_) {
    too_slow_ = true;
    changed_.notify_all();
    return {};
  }
  RoundHeader& header = round.header;
  header.kind = last ? RoundHeader::kLast : RoundHeader::kRecord;
  header.applied = static_cast<uint32_t>(round.record.applied);
  header.step = round.record.step;
  header.position = engine_.position();
  header.scale = round.record.scale;
  header.updated = given_;
  header.step_seconds = step_seconds;
  header.state = engine_.state().header();
  if (sums) {
    MUSTER_ASSIGN(round.given,
                  engine_.HandOutSums(memory_.spares.back(), std::span(own_).first(given_)));
    memory_.spares.pop_back();
  }
  const bool copies_in_use =
      std::ranges::any_of(rounds_, [](const Round& other) { return other.header.added > 0; });
  if (!copies_in_use && !last) MUSTER_TRY(AddStrips(round, kShare * step_seconds));
  rounds_.push_back(std::move(round));
  changed_.notify_all();
  return {};
}

Status Donation::AddStrips(Round& round, double seconds) {
  const TimePoint start = MonotonicNow();
  size_t used = 0;
  round.first = given_;
  while (given_ < own_.size()) {
    const size_t strip = own_[given_];
    const size_t bytes = engine_.strips().bytes(strip);
    if (used + bytes > memory_.strips.size()) break;
    MUSTER_TRY(engine_.CopyStrip(strip, memory_.strips.subspan(used, bytes)));
    used += bytes;
    ++given_;
    ++round.header.added;
    deadline_ = MonotonicNow() + kLimit;
    if (Seconds(MonotonicNow() - start) >= seconds) break;
  }
  return {};
}

void Donation::AwaitEnd() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
}

// --- The sender's side ------------------------------------------------------------------------------------------------------

Status Donation::Serve(const std::function<void()>& ready, std::stop_token stop) {
  const std::stop_callback revoke(
      stop, [this] { communicator_.Revoke("another generation is being prepared"); });
  Status served = Rounds(ready, stop);
  End();
  return served;
}

Status Donation::ServePlain(const std::function<void()>& ready) {
  Status told = Tell(RoundHeader::kPlain);
  End();
  if (told) ready();
  return told;
}

// With mutex_ held. Whatever may still be on its way into the memory of a round is awaited: it is about to be used again.
void Donation::TakeBack(const Round& round) {
  if (round.given.sums.empty()) return;
  (void)round.given.await();
  memory_.spares.push_back(round.given.sums);
}

void Donation::End() {
  std::lock_guard lock(mutex_);
  for (const Round& round : rounds_) TakeBack(round);
  rounds_.clear();
  ended_ = true;
  changed_.notify_all();
}

Status Donation::Rounds(const std::function<void()>& ready, const std::stop_token& stop) {
  bool told_ready = false;
  std::unique_lock lock(mutex_);
  while (true) {
    if (!changed_.wait(lock, stop, [this] { return !rounds_.empty() || too_slow_; })) {
      return Err(Code::kAborted, "another generation is being prepared");
    }
    if (rounds_.empty()) break;
    const Round& round = rounds_.front();  // stays where it is when others are added
    const bool last = round.header.kind == RoundHeader::kLast;
    lock.unlock();
    MUSTER_TRY(Send(round));
    lock.lock();
    TakeBack(round);
    rounds_.pop_front();
    if (last) return {};
    const bool caught_up = given_ == own_.size() && rounds_.size() <= 1 && !too_slow_;
    if (caught_up && !std::exchange(told_ready, true)) {
      lock.unlock();
      ready();
      lock.lock();
    }
  }
  lock.unlock();
  MUSTER_TRY(Tell(RoundHeader::kTooSlow));
  if (!told_ready) ready();
  return {};
}

Status Donation::Send(const Round& round) {
  std::vector<std::span<const std::byte>> parts = {BytesOf(round.header)};
  parts.push_back(std::as_bytes(round.record.outcome.lanes()));
  if (!round.given.sums.empty()) {
    MUSTER_TRY(round.given.await());
    for (size_t i = 0; i < round.header.updated; ++i) {
      parts.push_back(engine_.SumsOf(own_[i], round.given.sums));
    }
  }
  std::vector<Hash128> hashes(round.header.added);
  std::span<const std::byte> copies = memory_.strips;
  for (size_t i = 0; i < hashes.size(); ++i) {
    const auto copy = copies.first(engine_.strips().bytes(own_[round.first + i]));
    copies = copies.subspan(copy.size());
    hashes[i] = HashBytes(copy);
    parts.push_back(BytesOf(hashes[i]));
    parts.push_back(copy);
  }
  std::vector<SendTo> sends;
  for (const int joiner : joiners_) {
    for (const auto part : parts) sends.push_back({joiner, part});
  }
  (void)Failpoint("join.round_sent");
  MUSTER_TRY(communicator_.Exchange(sends, {}));
  std::vector<uint64_t> positions(joiners_.size());
  std::vector<ReceiveFrom> answers;
  for (size_t i = 0; i < joiners_.size(); ++i) {
    answers.push_back({joiners_[i], WritableBytesOf(positions[i])});
  }
  MUSTER_TRY(communicator_.Exchange({}, answers));
  for (size_t i = 0; i < joiners_.size(); ++i) {
    if (positions[i] == round.header.position) continue;
    return Err(Code::kInternal, "rank {} is at position {} after a round of position {}",
               joiners_[i], positions[i], round.header.position);
  }
  return {};
}

// A round with nothing in it, which needs no answer.
Status Donation::Tell(RoundHeader::Kind kind) {
  RoundHeader header;
  header.kind = kind;
  {
    std::lock_guard lock(mutex_);
    header.step_seconds = step_seconds_;
  }
  std::vector<SendTo> sends;
  for (const int joiner : joiners_) sends.push_back({joiner, BytesOf(header)});
  return communicator_.Exchange(sends, {});
}

}  // namespace muster
