// The sending half of a Link, and what both halves share.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "collectives/host/link.h"

namespace muster::host {
namespace {

constexpr size_t kMaxPieces = 64;  // frames in one system call
// Twice as many entries, for header and payload.
using PieceVector = std::array<iovec, 2 * kMaxPieces>;

iovec Entry(const void* data, size_t bytes, size_t skip) {
  return {static_cast<std::byte*>(const_cast<void*>(data)) + skip, bytes - skip};
}

}  // namespace

Link::Link(Connection connection, std::string peer_id, int peer_rank, size_t chunk_bytes,
           std::shared_ptr<const Arena> arena)
    : connection_(std::move(connection)),
      rank_(peer_rank),
      name_(fmt::format("peer {} ({})", peer_rank, peer_id)),
      chunk_bytes_(chunk_bytes),
      arena_(std::move(arena)) {}

void Link::Send(const Operation& operation, std::span<const std::byte> data, Gate gate) {
  outgoing_.push_back({operation, data, gate});
}

void Link::BeginOperation(TimePoint now) {
  last_activity_ = last_heard_ = now;
  taken_before_ = messages_taken_;
}

bool Link::NeedsPeer() const {
  const bool sending = !outgoing_.empty() || (!pieces_.empty() && !OnlyHeartbeatLeft()) ||
                       shared_answered_ != shared_sent_;
  const bool answering = shared_taken_ != shared_reported_;
  return sending || answering || !incoming_.empty();
}

Trouble Link::Lost(std::string_view how) const {
  return {Code::kAborted, fmt::format("{} {}", name_, how), rank_};
}

pollfd Link::PollEntry() const {
  short events = 0;
  if (!closed_ && state_ != State::kBlocked) events |= POLLIN;
  const bool can_commit = !outgoing_.empty() && outgoing_.front().gate.Open();
  if (!broken_ && (!pieces_.empty() || can_commit)) events |= POLLOUT;
  // Without anything to wait for, a peer that has closed would wake us again and again.
  return {.fd = events == 0 ? -1 : fd().get(), .events = events};
}

std::optional<Trouble> Link::Write(bool answer) {
  if (broken_) return std::nullopt;
  if (answer && shared_consumed_ != shared_reported_) {
    if (auto trouble = Confirm()) return trouble;
    Answer();
  }
  size_t budget = kTurnBytes;
  while (budget > 0) {
    while (!outgoing_.empty() && outgoing_.front().gate.Open() && pieces_.size() < kMaxPieces) {
      Commit(outgoing_.front());
      outgoing_.pop_front();
    }
    if (pieces_.empty()) return std::nullopt;
    const Io io = SendPieces();
    if (io.would_block) return std::nullopt;
    if (io.closed) {
      // The peer is gone, but what it said before may tell why: Read() looks for it up to the end of the stream.
      broken_ = true;
      return Resume();
    }
    AdvancePieces(io.bytes);
    Touch();
    budget -= std::min(budget, io.bytes);
  }
  return std::nullopt;
}

void Link::Beat() {
  if (broken_ || closed_ || !pieces_.empty()) return;
  pieces_.push_back({Frame{.type = FrameType::kHeartbeat}, {}});
  const Io io = SendPieces();
  broken_ = io.closed;
  if (!io.would_block && !io.closed) AdvancePieces(io.bytes);
}

// A peer that has closed need not get it.
bool Link::OnlyHeartbeatLeft() const {
  return pieces_.size() == 1 && pieces_.front().header.type == FrameType::kHeartbeat;
}

void Link::Commit(const Outgoing& message) {
  Frame header{.type = FrameType::kInline,
               .operation = message.operation.code(),
               .sequence = messages_sent_++,
               .bytes = message.data.size(),
               .total = message.operation.total};
  const bool share = connection_.peer_reads_arena && message.data.size() > kInlineBytes;
  const auto place = share ? arena_->Find(message.data) : std::nullopt;
  if (!place) {
    pieces_.push_back({header, message.data});
    return;
  }
  if (segments_announced_.size() <= place->segment) segments_announced_.resize(place->segment + 1);
  if (!segments_announced_[place->segment]) {
    segments_announced_[place->segment] = true;
    const Arena::Segment segment = arena_->segment(place->segment);
    const Frame announcement{
        .type = FrameType::kSegment, .bytes = segment.bytes, .segment = place->segment};
    pieces_.push_back({announcement, {}, segment.fd});
  }
  header.type = FrameType::kShared;
  header.segment = place->segment;
  header.offset = place->offset;
  pieces_.push_back({header, {}});
  ++shared_sent_;
}

void Link::Answer() {
  shared_reported_ = shared_consumed_;
  pieces_.push_back({Frame{.type = FrameType::kDone, .sequence = shared_reported_}, {}});
}

Io Link::SendPieces() {
  PieceVector entries;
  size_t used = 0;
  size_t bytes = 0;
  const int fd_to_pass = pieces_.front().sent == 0 ? pieces_.front().fd : -1;
  for (const Piece& piece : pieces_) {
    // A descriptor belongs to the first byte of its own frame.
    const bool starts_with_fd = piece.fd >= 0 && piece.sent == 0;
    if (used + 2 > entries.size() || bytes >= kTurnBytes || (used > 0 && starts_with_fd)) break;
    bytes += piece.size();
    const size_t header_sent = std::min(piece.sent, sizeof(Frame));
    if (header_sent < sizeof(Frame)) {
      entries[used++] = Entry(&piece.header, sizeof(Frame), header_sent);
    }
    if (!piece.payload.empty()) {
      entries[used++] = Entry(piece.payload.data(), piece.payload.size(), piece.sent - header_sent);
    }
  }
  return host::Send(fd().get(), std::span(entries).first(used), fd_to_pass);
}

void Link::AdvancePieces(size_t bytes) {
  while (bytes > 0) {
    Piece& piece = pieces_.front();
    const size_t passed = std::min(bytes, piece.size() - piece.sent);
    piece.sent += passed;
    bytes -= passed;
    if (piece.sent == piece.size()) pieces_.pop_front();
  }
}

std::optional<RetiredConnection> Link::Retire(const std::string& last_words) && {
  RetiredConnection retired{std::move(connection_.fd), {}};
  if (closed_ || broken_) return std::nullopt;
  // The peer may still complete its operation with the message that is half sent, so it gets the true bytes; they are
  // copied, because their memory belongs to the caller.
  if (!pieces_.empty() && pieces_.front().sent > 0) {
    const Piece& piece = pieces_.front();
    std::string whole(reinterpret_cast<const char*>(&piece.header), sizeof(Frame));
    whole.append(reinterpret_cast<const char*>(piece.payload.data()), piece.payload.size());
    retired.last_words = whole.substr(piece.sent);
  }
  retired.last_words += last_words;
  if (!SendLastWords(retired)) return std::nullopt;
  // A peer that may be reading our memory must see the end before our caller changes that memory, even if it cannot be
  // told the reason.
  if (!retired.last_words.empty() && shared_answered_ != shared_sent_) return std::nullopt;
  return retired;
}

}  // namespace muster::host
