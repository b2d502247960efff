// The receiving half of a Link.
#include <algorithm>
#include <cctype>

#include "collectives/host/link.h"
#include "runtime/base/check.h"

namespace muster::host {

void Link::Receive(const Operation& operation, std::span<std::byte> into) {
  incoming_.push_back({operation, into, {}, nullptr});
}

void Link::ReceiveView(const Operation& operation, size_t bytes, size_t slot, Gate gate,
                       const std::byte** view) {
  *view = nullptr;
  incoming_.push_back({operation, {ViewSlot(slot), bytes}, gate, view});
}

std::optional<Trouble> Link::Consumed() {
  MUSTER_CHECK(!views_.empty());
  const bool shared = views_.front();
  views_.pop_front();
  if (!shared) return std::nullopt;
  ++shared_consumed_;
  return Confirm();
}

std::optional<Trouble> Link::Confirm() {
  do {
    if (auto trouble = Read()) return trouble;
    if (closed_) return Lost();
    // The peer's next operation cannot begin before we have answered.
    if (state_ == State::kBlocked) return Disagreement("has posted no receive for it");
  } while (!drained_);
  return std::nullopt;
}

std::optional<Trouble> Link::Resume() {
  if (state_ != State::kBlocked) return std::nullopt;
  state_ = State::kHeader;
  if (auto trouble = OnFrame()) return trouble;
  return Parse();
}

std::optional<Trouble> Link::Read() {
  drained_ = closed_;
  size_t budget = kTurnBytes;
  while (!drained_ && budget > 0 && state_ != State::kBlocked) {
    const Io io = ReceiveBytes();
    closed_ = io.closed;
    drained_ = io.would_block || io.closed;
    if (io.bytes > 0) last_heard_ = MonotonicNow();
    if (io.bytes > 0 && state_ != State::kHeader) last_activity_ = last_heard_;
    budget -= std::min(budget, io.bytes);
    if (auto trouble = Parse()) return trouble;
  }
  return std::nullopt;
}

// Large payloads go straight to their place, with the bytes after them into the buffer in the same call.
Io Link::ReceiveBytes() {
  std::copy(buffer_.begin() + buffer_begin_, buffer_.begin() + buffer_end_, buffer_.begin());
  buffer_end_ -= std::exchange(buffer_begin_, 0);
  std::array<iovec, 2> entries;
  size_t used = 0;
  const bool direct = state_ == State::kPayload;
  if (direct) entries[used++] = {payload_.data(), payload_.size()};
  entries[used++] = {buffer_.data() + buffer_end_, buffer_.size() - buffer_end_};
  const Io io = host::Receive(fd().get(), std::span(entries).first(used), &passed_);
  const size_t placed = direct ? std::min(io.bytes, payload_.size()) : 0;
  if (direct) payload_ = payload_.subspan(placed);
  buffer_end_ += io.bytes - placed;
  return io;
}

size_t Link::TakeBuffered(std::span<std::byte> into) {
  const size_t bytes = std::min(into.size(), buffer_end_ - buffer_begin_);
  std::copy_n(buffer_.begin() + buffer_begin_, bytes, into.begin());
  buffer_begin_ += bytes;
  return bytes;
}

// Each round takes one step or returns for want of bytes.
std::optional<Trouble> Link::Parse() {
  while (true) {
    const size_t buffered = buffer_end_ - buffer_begin_;
    switch (state_) {
      case State::kBlocked:
        return std::nullopt;
      case State::kHeader:
        if (buffered < sizeof(Frame)) return std::nullopt;
        TakeBuffered(std::as_writable_bytes(std::span(&frame_, 1)));
        if (auto trouble = OnFrame()) return trouble;
        break;
      case State::kPayload:
        payload_ = payload_.subspan(TakeBuffered(payload_));
        if (!payload_.empty()) return std::nullopt;
        OnMessageComplete();
        break;
      case State::kReason:
        if (buffered < reason_.size()) return std::nullopt;
        TakeBuffered(std::as_writable_bytes(std::span(reason_)));
        return OnRevoke();
      case State::kDiscard:
        buffer_begin_ += std::min(discard_, buffered);
        discard_ -= std::min(discard_, buffered);
        if (discard_ > 0) return std::nullopt;
        state_ = State::kHeader;
        break;
    }
  }
}

std::optional<Trouble> Link::OnFrame() {
  if (auto what = frame_.Validate(chunk_bytes_, connection_.key.size)) return Malformed(*what);
  if (frame_.type != FrameType::kHeartbeat) last_activity_ = last_heard_;
  switch (frame_.type) {
    case FrameType::kHeartbeat:
      return std::nullopt;
    case FrameType::kInline:
    case FrameType::kShared:
      return OnMessage();
    case FrameType::kDone:
      if (frame_.sequence > shared_sent_ || frame_.sequence <= shared_answered_) {
        return Malformed(fmt::format("{} of {} messages read", frame_.sequence, shared_sent_));
      }
      shared_answered_ = frame_.sequence;
      return std::nullopt;
    case FrameType::kSegment: {
      const Status added = remote_.Add(frame_.segment, frame_.bytes, std::move(passed_));
      if (!added) return Malformed(added.error().message);
      return std::nullopt;
    }
    case FrameType::kRevoke:
      reason_.assign(frame_.bytes, '\0');
      state_ = State::kReason;
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<Trouble> Link::OnMessage() {
  const bool shared = frame_.type == FrameType::kShared;
  if (broken_) {
    discard_ = shared ? 0 : frame_.bytes;
    state_ = State::kDiscard;
    return std::nullopt;
  }
  if (incoming_.empty()) {
    state_ = State::kBlocked;
    return std::nullopt;
  }
  Incoming& message = incoming_.front();
  const Operation& expected = message.operation;
  if (frame_.operation != expected.code() || frame_.total != expected.total ||
      frame_.bytes != message.into.size()) {
    return Disagreement("is in " + Describe(expected.code(), expected.total));
  }
  if (frame_.sequence != messages_taken_) {
    return Malformed(fmt::format("message {} after {}", frame_.sequence, messages_taken_));
  }
  return shared ? OnShared(message) : OnInline(message);
}

std::optional<Trouble> Link::OnInline(Incoming& message) {
  if (!message.gate.Open()) {
    state_ = State::kBlocked;
    return std::nullopt;
  }
  payload_ = message.into;
  state_ = State::kPayload;  // also for an empty one: Parse() completes it
  return std::nullopt;
}

std::optional<Trouble> Link::OnShared(Incoming& message) {
  const std::byte* data = remote_.Find(frame_.segment, frame_.offset, frame_.bytes);
  if (data == nullptr) {
    return Malformed(
        fmt::format("{} bytes at {} of segment {}", frame_.bytes, frame_.offset, frame_.segment));
  }
  ++shared_taken_;
  if (message.view == nullptr) {
    std::copy_n(data, message.into.size(), message.into.begin());
    ++shared_consumed_;
    if (after_copy_) after_copy_();
  } else {
    *message.view = data;
    views_.push_back(true);
    message.view = nullptr;
  }
  OnMessageComplete();
  return std::nullopt;
}

void Link::OnMessageComplete() {
  const Incoming& message = incoming_.front();
  if (message.view != nullptr) {
    *message.view = message.into.data();
    views_.push_back(false);
  }
  incoming_.pop_front();
  ++messages_taken_;
  arrived_ = true;
  state_ = State::kHeader;
}

std::optional<Trouble> Link::OnRevoke() {
  // It will be logged and shown: nothing but printable text.
  std::ranges::replace_if(
      reason_, [](char c) { return std::isprint(static_cast<unsigned char>(c)) == 0; }, '?');
  if (reason_.empty()) reason_ = name_ + " ended the generation and gave no reason";
  std::optional<int> lost_peer;
  if (frame_.rank != Frame::kNobody) lost_peer = frame_.rank;
  return Trouble{Code::kAborted, reason_, lost_peer};
}

Trouble Link::Malformed(const std::string& what) const {
  return Lost("sent a malformed frame: " + what);
}

Trouble Link::Disagreement(const std::string& here) const {
  return {Code::kInvalidArgument,
          fmt::format("{} is in {}, but this rank {}", name_,
                      Describe(frame_.operation, frame_.total), here),
          std::nullopt};
}

// Memory that no view ever comes to is reserved but not used.
std::byte* Link::ViewSlot(size_t slot) {
  MUSTER_CHECK(slot <= kShortView);
  if (!view_slots_) {
    view_slots_ = std::make_unique_for_overwrite<std::byte[]>(kViews * chunk_bytes_ + kInlineBytes);
  }
  return view_slots_.get() + slot * chunk_bytes_;
}

}  // namespace muster::host
