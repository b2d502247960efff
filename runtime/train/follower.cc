#include "runtime/train/follower.h"

#include <algorithm>
#include <utility>

#include "runtime/base/bytes.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/time.h"

namespace muster {

namespace {

bool CarriesSums(const RoundHeader& header) {
  return header.updated > 0 &&
         header.applied == static_cast<uint32_t>(StepEngine::Applied::kCommitted);
}

}  // namespace

Follower::Follower(Communicator& communicator, StepEngine& engine, std::span<const int> donors,
                   std::function<void()> lose)
    : communicator_(communicator),
      engine_(engine),
      lose_(std::move(lose)),
      positions_(engine.strips().count(), UINT64_MAX) {
  for (size_t i = 0; i < donors.size(); ++i) {
    Stream& stream = streams_.emplace_back(Stream{.donor = donors[i], .record = engine.record()});
    for (size_t strip = i; strip < positions_.size(); strip += donors.size()) {
      stream.strips.push_back(strip);
    }
  }
}

void Follower::Begin() {
  if (std::exchange(begun_, true)) return;
  engine_.ForgetStep();
  engine_.state().set_all_page_versions(UINT64_MAX);
  lose_();
}

bool Follower::AllEnded() const {
  return std::ranges::all_of(streams_, [](const Stream& stream) { return stream.ended; });
}

Result<Followed> Follower::Run() {
  Status status;
  while (status && !AllEnded()) status = Round();
  const Status concluded = Conclude();
  if (!status) return tl::unexpected(status.error());
  MUSTER_TRY(concluded);
  return followed_;
}

// One round of each donor that still sends. They take their steps together, so nobody waits for long.
Status Follower::Round() {
  std::vector<Stream*> live;
  std::vector<ReceiveFrom> receives;
  for (Stream& stream : streams_) {
    if (stream.ended) continue;
    live.push_back(&stream);
    receives.push_back({stream.donor, WritableBytesOf(stream.header)});
  }
  MUSTER_TRY(communicator_.Exchange({}, receives));
  const TimePoint start = MonotonicNow();
  receives.clear();
  for (Stream* stream : live) {
    MUSTER_TRY(Check(*stream));
    Expect(*stream, receives);
  }
  MUSTER_TRY(communicator_.Exchange({}, receives));
  for (const ReceiveFrom& receive : receives) followed_.bytes += receive.data.size();
  for (Stream* stream : live) MUSTER_TRY(Apply(*stream));
  (void)Failpoint("join.round_applied");
  std::vector<SendTo> answers;
  for (Stream* stream : live) {
    const RoundHeader& header = stream->header;
    if (header.is_empty()) continue;
    answers.push_back({stream->donor, BytesOf(header.position)});
  }
  MUSTER_TRY(communicator_.Exchange(answers, {}));
  followed_.apply_seconds = std::max(followed_.apply_seconds, Seconds(MonotonicNow() - start));
  ++followed_.rounds;
  return {};
}

Status Follower::Check(const Stream& stream) const {
  const RoundHeader& header = stream.header;
  const bool known = header.kind >= RoundHeader::kRecord && header.kind <= RoundHeader::kTooSlow;
  const bool applied = header.applied <= static_cast<uint32_t>(StepEngine::Applied::kSkipped);
  const bool strips = header.is_empty() ? header.updated == 0 && header.added == 0
                                        : header.updated == stream.held &&
                                              header.added <= stream.strips.size() - stream.held;
  if (known && applied && strips) return {};
  return Err(Code::kInvalidArgument,
             "rank {} sent a round that makes no sense: kind {}, outcome {}, {} strips after {} of "
             "{}, of which {} are held",
             stream.donor, header.kind, header.applied, header.added, header.updated,
             stream.strips.size(), stream.held);
}

void Follower::Expect(Stream& stream, std::vector<ReceiveFrom>& receives) {
  const RoundHeader& header = stream.header;
  followed_.step_seconds = std::max(followed_.step_seconds, header.step_seconds);
  if (header.is_empty()) return;
  Begin();
  const auto receive = [&](std::span<std::byte> data) { receives.push_back({stream.donor, data}); };
  receive(std::as_writable_bytes(stream.record.outcome.lanes()));
  if (CarriesSums(header)) {
    for (size_t i = 0; i < stream.held; ++i) {
      receive(engine_.SumsOf(stream.strips[i], engine_.sums()));
    }
  }
  const auto added = std::span(stream.strips).subspan(stream.held, header.added);
  size_t bytes = 0;
  for (const size_t strip : added) bytes += engine_.strips().bytes(strip);
  stream.packed.resize(bytes);
  stream.hashes.resize(added.size());
  std::span<std::byte> packed = stream.packed;
  for (size_t i = 0; i < added.size(); ++i) {
    const size_t size = engine_.strips().bytes(added[i]);
    receive(WritableBytesOf(stream.hashes[i]));
    receive(packed.first(size));
    packed = packed.subspan(size);
  }
}

Status Follower::Apply(Stream& stream) {
  const RoundHeader& header = stream.header;
  stream.ended = header.kind != RoundHeader::kRecord;
  followed_.plain = followed_.plain || header.kind == RoundHeader::kPlain;
  followed_.too_slow = followed_.too_slow || header.kind == RoundHeader::kTooSlow;
  if (header.is_empty()) return {};
  stream.record.applied = static_cast<StepEngine::Applied>(header.applied);
  stream.record.step = header.step;
  stream.record.scale = header.scale;
  const auto held = std::span(stream.strips).first(stream.held);
  for (const size_t strip : held) positions_[strip] = UINT64_MAX;  // neither old nor new
  MUSTER_TRY(engine_.ApplyTo(held, stream.record));
  for (const size_t strip : held) positions_[strip] = header.position;
  std::span<const std::byte> packed = stream.packed;
  for (size_t i = 0; i < header.added; ++i) {
    const size_t strip = stream.strips[stream.held];
    const auto bytes = packed.first(engine_.strips().bytes(strip));
    packed = packed.subspan(bytes.size());
    if (HashBytes(bytes) != stream.hashes[i]) {
      return Err(Code::kDataLoss, "strip {} arrived damaged from rank {}", strip, stream.donor);
    }
    MUSTER_TRY(engine_.PlaceStrip(strip, bytes));
    positions_[strip] = header.position;
    ++stream.held;
  }
  return {};
}

// The members have switched after the same outcome, so whoever says what the header is says the same.
Status Follower::Conclude() {
  if (!begun_) return {};
  const uint64_t position = streams_.front().header.position;
  const bool last = std::ranges::all_of(streams_, [&](const Stream& stream) {
    return stream.ended && stream.header.kind == RoundHeader::kLast &&
           stream.header.position == position && stream.held == stream.strips.size();
  });
  followed_.whole = last;
  if (!last) return engine_.MarkPages(positions_);
  engine_.state().header() = streams_.front().header.state;
  engine_.state().set_all_page_versions(position);
  return {};
}

}  // namespace muster
