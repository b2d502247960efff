// Frames: a Link whose peer sends whatever it likes, while operations are posted, read and given up on this side.
//
// Beside the general promises: a message is delivered whole, unchanged, to the memory that was posted for it and in order;
// no memory of a later message is touched; what the link says of trouble names the peer, and what a peer says is printable; what
// the link itself sends are well-formed frames.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <deque>
#include <map>
#include <memory>

#include "collectives/host/link.h"
#include "tests/fuzz/fuzz.h"

namespace muster::fuzz {
namespace {

using host::Frame;
using host::FrameType;
using host::Operation;

constexpr size_t kChunkBytes = 64 << 10;
constexpr size_t kSegmentBytes =
    72 << 10;  // of the peer's memory: more than a message, so that places in it differ
constexpr std::byte kUntouched{0xa5};
constexpr int kMostSteps = 200;
constexpr size_t kMostWaiting = 1 << 20;  // bytes that are posted and not taken

enum class Step : uint8_t {
  kRawBytes,     // whatever the script holds
  kFitting,      // the frame of the next message that was posted, and its payload
  kFittingNote,  // the same as a notice of memory: segment, offset
  kSegment,      // a descriptor: its kind, segment, bytes
  kDone,         // how many were read
  kRevoke,
  kReceive,  // bytes
  kView,     // bytes, slot, whether its gate is closed
  kOpenGates,
  kConsume,
  kSend,        // bytes
  kSendShared,  // bytes, out of the arena
  kWrite,
  kRead,
  kDrain,  // the peer reads
  kClose,
  kHeartbeat,  // of the peer
  kBeat,       // ours
  kCount
};

std::byte PatternAt(size_t index) { return static_cast<std::byte>(index * 131 >> 3); }

std::string_view View(const Frame& frame) {
  return {reinterpret_cast<const char*>(&frame), sizeof frame};
}

struct Posted {
  Operation operation;
  size_t bytes = 0;
  std::vector<std::byte> into;      // a receive
  const std::byte* view = nullptr;  // a view, once it is there
  std::optional<size_t> slot;       // a view
  bool consumed = false;
  size_t gate = 0;
};

// What one input does, step by step.
class Play {
 public:
  explicit Play(std::string_view input) : script_(input) {
    const auto options = script_.Number<uint8_t>();
    int ends[2];
    MUSTER_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    peer_ = UniqueFd(ends[1]);
    link_ = std::make_unique<host::Link>(
        host::Connection{UniqueFd(ends[0]), {1, 1, 0, 3}, (options & 1) != 0}, "w-1", 1,
        kChunkBytes, Arenas().own);
    link_->BeginOperation(MonotonicNow());
  }

  void Run() {
    // More steps make an input slower, and show nothing more.
    for (int steps = 0; steps < kMostSteps && !script_.AtEnd() && !trouble_; ++steps) {
      const auto step = static_cast<Step>(script_.Number<uint8_t>() % uint8_t(Step::kCount));
      Take(step);
      CheckDelivered();
    }
    if (trouble_) CheckTrouble();
    if (const auto rest = std::move(*link_).Retire(host::RevokeFrame("the end", std::nullopt))) {
      MUSTER_CHECK(rest->fd.get() >= 0);
    }
  }

 private:
  struct TwoArenas {
    std::shared_ptr<host::Arena> own = std::make_shared<host::Arena>();
    host::Arena peer;
    std::span<std::byte> own_memory = own->Allocate(kChunkBytes).value();
    std::span<std::byte> peer_memory = peer.Allocate(kSegmentBytes).value();
    TwoArenas() {
      for (size_t i = 0; i < peer_memory.size(); ++i) peer_memory[i] = PatternAt(i);
    }
  };
  // Never changed, and slow to make.
  static TwoArenas& Arenas() {
    static TwoArenas arenas;
    return arenas;
  }

  size_t Bytes() { return script_.Number<uint32_t>() % (kChunkBytes + 1); }

  Operation OperationOf(size_t bytes) {
    return {.kind = Operation::Kind::kExchange, .total = bytes};
  }

  void Take(Step step) {
    switch (step) {
      case Step::kRawBytes:
        return Say(script_.Bytes());
      case Step::kFitting:
        return SayFitting();
      case Step::kFittingNote: {
        Frame frame = FittingFrame(FrameType::kShared);
        frame.segment = script_.Number<uint8_t>();
        frame.offset = script_.Number<uint32_t>();
        return Say(View(frame));
      }
      case Step::kSegment:
        return SaySegment();
      case Step::kDone:
        return Say(View({.type = FrameType::kDone, .sequence = script_.Number<uint8_t>()}));
      case Step::kRevoke: {
        const auto rank = script_.Number<int8_t>();
        return Say(host::RevokeFrame(std::string(script_.Bytes()),
                                     rank < 0 ? std::nullopt : std::optional<int>(rank)));
      }
      case Step::kHeartbeat:
        return Say(View({.type = FrameType::kHeartbeat}));
      case Step::kBeat:
        return link_->Beat();
      case Step::kReceive:
        return Receive();
      case Step::kView:
        return ReceiveView();
      case Step::kOpenGates:
        gates_open_ = posted_.size();
        return Keep(link_->Resume());
      case Step::kConsume:
        return Consume();
      case Step::kSend:
        return link_->Send(OperationOf(0), Arenas().own_memory.first(Bytes() % 4096));
      case Step::kSendShared: {
        const size_t bytes = Bytes();
        return link_->Send(OperationOf(bytes), Arenas().own_memory.first(bytes));
      }
      case Step::kWrite:
        return Keep(link_->Write(/*answer=*/(script_.Number<uint8_t>() & 1) != 0));
      case Step::kRead:
        Keep(link_->Read());
        if (!trouble_) Keep(link_->Resume());
        return;
      case Step::kDrain:
        return Drain();
      case Step::kClose:
        ::shutdown(peer_.get(), SHUT_WR);
        return;
      case Step::kCount:
        return;
    }
  }

  void Keep(std::optional<host::Trouble> trouble) {
    if (trouble) trouble_ = std::move(trouble);
  }

  // --- The peer ---

  // What does not fit into the socket is never said; then a frame may be cut off, as by a crash.
  void Say(std::string_view bytes, int fd = -1) {
    if (bytes.empty()) return;
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    said_ += bytes.substr(0, host::Send(peer_.get(), {&piece, 1}, fd).bytes);
  }

  Frame FittingFrame(FrameType type) {
    const Posted* next = data_frames_ < posted_.size() ? &posted_[data_frames_] : nullptr;
    const size_t bytes = next != nullptr ? next->bytes : 8;
    return {.type = type,
            .operation = OperationOf(bytes).code(),
            .sequence = data_frames_++,
            .bytes = bytes,
            .total = bytes};
  }

  void SayFitting() {
    const Frame frame = FittingFrame(FrameType::kInline);
    std::string text(View(frame));
    const auto first = script_.Number<uint8_t>();
    text.append(reinterpret_cast<const char*>(Arenas().peer_memory.data()) + first, frame.bytes);
    Say(text);
  }

  void SaySegment() {
    const auto kind = script_.Number<uint8_t>() % 5;
    Frame frame{.type = FrameType::kSegment};
    frame.segment = script_.Number<uint8_t>();
    frame.bytes = script_.Number<uint32_t>();
    const host::Arena::Segment good = Arenas().peer.segment(0);
    if (kind <= 1) frame.bytes = good.bytes;
    UniqueFd other;
    if (kind == 3) {
      other = UniqueFd(::memfd_create("unsealed", MFD_CLOEXEC));
      MUSTER_CHECK(::ftruncate(other.get(), kSegmentBytes) == 0);
    } else if (kind == 4) {
      other = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    Say(View(frame), kind == 0 ? -1 : kind <= 2 ? good.fd : other.get());
  }

  void Drain() {
    char buffer[4096];
    for (ssize_t got = 1; got > 0;) {
      got = ::recv(peer_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got > 0) heard_.append(buffer, static_cast<size_t>(got));
    }
    while (heard_.size() >= sizeof(Frame)) {
      Frame frame;
      std::memcpy(&frame, heard_.data(), sizeof frame);
      MUSTER_CHECK(!frame.Validate(kChunkBytes, 3), "the link has sent a bad frame");
      const size_t payload = frame.type == FrameType::kInline ? frame.bytes : 0;
      if (heard_.size() < sizeof frame + payload) return;
      heard_.erase(0, sizeof frame + payload);
    }
  }

  // --- This side ---

  bool Full() const {
    size_t waiting = 0;
    for (size_t i = link_->taken(); i < posted_.size(); ++i) waiting += posted_[i].bytes;
    return waiting > kMostWaiting;
  }

  Posted& Post(size_t bytes) {
    posted_.emplace_back();
    posted_.back().operation = OperationOf(bytes);
    posted_.back().bytes = bytes;
    return posted_.back();
  }

  void Receive() {
    if (Full()) return;
    Posted& posted = Post(Bytes());
    posted.into.assign(posted.bytes, kUntouched);
    link_->Receive(posted.operation, posted.into);
  }

  // A slot has one view at a time; whoever posts the next waits by a gate.
  void ReceiveView() {
    size_t bytes = Bytes();
    const size_t slot = script_.Number<uint8_t>() % (host::Link::kShortView + 1);
    const bool closed = (script_.Number<uint8_t>() & 1) != 0;
    if (slot == host::Link::kShortView) bytes = std::min(bytes, host::Link::kInlineBytes);
    for (const Posted& other : posted_) {
      if (other.slot == slot && !other.consumed) return;
    }
    Posted& posted = Post(bytes);
    posted.slot = slot;
    posted.gate = closed ? posted_.size() : 0;
    link_->ReceiveView(posted.operation, bytes, slot, {&gates_open_, posted.gate}, &posted.view);
  }

  // The oldest view that is there and not consumed.
  void Consume() {
    for (size_t i = 0; i < link_->taken(); ++i) {
      if (!posted_[i].slot || posted_[i].consumed) continue;
      posted_[i].consumed = true;
      return Keep(link_->Consumed());
    }
  }

  // --- What is promised ---

  // The next data frame of what the peer has said.
  std::optional<Frame> NextDataFrame() {
    while (said_.size() - at_ >= sizeof(Frame)) {
      Frame frame;
      std::memcpy(&frame, said_.data() + at_, sizeof frame);
      at_ += sizeof frame;
      if (frame.type == FrameType::kInline || frame.type == FrameType::kShared) return frame;
    }
    return std::nullopt;
  }

  void CheckDelivered() {
    const size_t taken = link_->taken();
    MUSTER_CHECK(taken <= posted_.size(), "{} messages for {} posted", taken, posted_.size());
    for (; checked_ < taken; ++checked_) {
      const auto frame = NextDataFrame();
      MUSTER_CHECK(frame.has_value(), "message {} came out of nothing", checked_);
      CheckMessage(posted_[checked_], *frame);
    }
    // The one after those taken may be half there.
    static const std::vector<std::byte> untouched(kChunkBytes, kUntouched);
    for (size_t i = taken + 1; i < posted_.size(); ++i) {
      const std::vector<std::byte>& into = posted_[i].into;
      MUSTER_CHECK(into.empty() || std::memcmp(into.data(), untouched.data(), into.size()) == 0,
                   "message {} was touched, {} are taken", i, taken);
      MUSTER_CHECK(posted_[i].view == nullptr);
    }
  }

  void CheckMessage(const Posted& posted, const Frame& frame) {
    MUSTER_CHECK(frame.bytes == posted.bytes && frame.total == posted.operation.total &&
                 frame.operation == posted.operation.code() && frame.sequence == checked_);
    const std::byte* found = posted.slot ? posted.view : posted.into.data();
    MUSTER_CHECK(found != nullptr || posted.bytes == 0);
    if (frame.type == FrameType::kInline) {
      MUSTER_CHECK(said_.size() - at_ >= frame.bytes, "message {} was not said yet", checked_);
      MUSTER_CHECK(frame.bytes == 0 || std::memcmp(found, said_.data() + at_, frame.bytes) == 0);
      at_ += frame.bytes;
      return;
    }
    MUSTER_CHECK(frame.offset + frame.bytes <= kSegmentBytes, "memory that was never shown");
    MUSTER_CHECK(frame.bytes == 0 || std::memcmp(found, Arenas().peer_memory.data() + frame.offset,
                                                 frame.bytes) == 0,
                 "message {} is not what lies at {}", checked_, frame.offset);
  }

  void CheckTrouble() {
    CheckError({trouble_->code, trouble_->reason, ""});
    const bool printable = std::ranges::all_of(
        trouble_->reason, [](char c) { return std::isprint(static_cast<unsigned char>(c)) != 0; });
    MUSTER_CHECK(printable, "{}", trouble_->reason);
    MUSTER_CHECK(!trouble_->lost_peer || (*trouble_->lost_peer >= 0 && *trouble_->lost_peer < 3));
  }

  Script script_;
  UniqueFd peer_;
  std::unique_ptr<host::Link> link_;
  std::deque<Posted> posted_;
  size_t gates_open_ = 0;
  size_t data_frames_ = 0;  // made to fit
  std::string said_;        // by the peer
  std::string heard_;
  size_t at_ = 0;  // of said_: behind the frames of the messages that were checked
  size_t checked_ = 0;
  std::optional<host::Trouble> trouble_;
};

ScriptWriter Begin(bool shares) { return std::move(ScriptWriter().Number(uint8_t(shares))); }

ScriptWriter& Add(ScriptWriter& script, Step step) { return script.Number(uint8_t(step)); }

}  // namespace

std::vector<Seed> Seeds() {
  std::vector<Seed> seeds;
  // A short, a long and an empty message, one of them before it is expected.
  ScriptWriter plain = Begin(false);
  Add(plain, Step::kReceive).Number(uint32_t{100});
  Add(plain, Step::kFitting).Number(uint8_t{7});
  Add(plain, Step::kRead);
  Add(plain, Step::kReceive).Number(uint32_t{50'000});
  Add(plain, Step::kFitting).Number(uint8_t{1});
  Add(plain, Step::kReceive).Number(uint32_t{0});
  Add(plain, Step::kFitting).Number(uint8_t{0});
  Add(plain, Step::kRead);
  Add(plain, Step::kSend).Number(uint32_t{300});
  Add(plain, Step::kWrite).Number(uint8_t{1});
  Add(plain, Step::kDrain);
  Add(plain, Step::kHeartbeat);
  Add(plain, Step::kBeat);
  Add(plain, Step::kRead);
  Add(plain, Step::kDrain);
  seeds.push_back({"messages", plain.bytes()});

  ScriptWriter views = Begin(false);
  for (const uint8_t slot : {0, 1, 4}) {
    Add(views, Step::kView).Number(uint32_t{5000}).Number(slot).Number(uint8_t(slot == 1));
    Add(views, Step::kFitting).Number(slot);
  }
  Add(views, Step::kRead);
  Add(views, Step::kConsume);
  Add(views, Step::kOpenGates);
  Add(views, Step::kRead);
  Add(views, Step::kConsume);
  seeds.push_back({"views", views.bytes()});

  ScriptWriter shared = Begin(true);
  Add(shared, Step::kSegment).Number(uint8_t{1}).Number(uint8_t{3}).Number(uint32_t{0});
  Add(shared, Step::kReceive).Number(uint32_t{40'000});
  Add(shared, Step::kFittingNote).Number(uint8_t{3}).Number(uint32_t{8192});
  Add(shared, Step::kView).Number(uint32_t{60'000}).Number(uint8_t{2}).Number(uint8_t{0});
  Add(shared, Step::kFittingNote).Number(uint8_t{3}).Number(uint32_t{64});
  Add(shared, Step::kRead);
  Add(shared, Step::kConsume);
  Add(shared, Step::kWrite).Number(uint8_t{1});
  Add(shared, Step::kSendShared).Number(uint32_t{50'000});
  Add(shared, Step::kWrite).Number(uint8_t{0});
  Add(shared, Step::kDrain);
  Add(shared, Step::kDone).Number(uint8_t{1});
  Add(shared, Step::kRead);
  seeds.push_back({"shared-memory", shared.bytes()});

  ScriptWriter revoked = Begin(false);
  Add(revoked, Step::kReceive).Number(uint32_t{10});
  Add(revoked, Step::kRevoke).Number(int8_t{2}).Bytes("peer 2 (w-2) closed the connection");
  Add(revoked, Step::kRead);
  seeds.push_back({"revoked", revoked.bytes()});

  // Frames as they lie in memory, so that every bit of a header is within reach.
  ScriptWriter raw = Begin(true);
  Add(raw, Step::kReceive).Number(uint32_t{16});
  const Frame header{
      .operation = Operation{.kind = Operation::Kind::kExchange}.code(), .bytes = 16, .total = 16};
  Add(raw, Step::kRawBytes).Bytes(std::string(View(header)) + "sixteen bytes...");
  Add(raw, Step::kRead);
  Add(raw, Step::kRawBytes).Bytes(host::RevokeFrame("because", std::nullopt));
  Add(raw, Step::kClose);
  Add(raw, Step::kRead);
  seeds.push_back({"raw", raw.bytes()});
  return seeds;
}

}  // namespace muster::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::fuzz::Play({reinterpret_cast<const char*>(data), size}).Run();
  return 0;
}
