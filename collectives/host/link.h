// Link: the connection to one peer in a generation: a queue of messages to send, a queue of messages expected, and the
// non-blocking I/O that advances both. Messages match in order: the n-th sent is the n-th expected.
//
// Large messages out of the arena travel as a notice (kShared) if the peer can map our memory: it reads the bytes where they
// lie and answers kDone.
//
// Threading: one thread at a time. Ownership: memory of posted messages belongs to the caller until Idle().
// Invariant: a peer that gives up an operation says so on this connection *before* its caller may change the memory (Unix
// sockets deliver at once). So after reading the peer's memory, and before anything that depends on it leaves this process,
// Confirm() looks at everything that has arrived: if there is no such word, the memory was read unchanged.
#pragma once

#include <poll.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/arena.h"
#include "collectives/host/frame.h"
#include "collectives/host/handshake.h"
#include "collectives/host/retirement.h"
#include "collectives/host/trouble.h"
#include "runtime/base/time.h"

namespace muster::host {

// Holds a posted message back until `*counter >= at_least`: results wait for their reduction, receives for free scratch.
struct Gate {
  const size_t* counter = nullptr;
  size_t at_least = 0;
  bool Open() const { return counter == nullptr || *counter >= at_least; }
};

class Link {
 public:
  // A message up to this size is copied even between processes that share memory: a notice costs as much.
  static constexpr size_t kInlineBytes = 32 << 10;
  // Slots for views that come over the wire: kViews of chunk_bytes to be used in turn, each with a gate that waits until it is
  // free, and one of kInlineBytes for a short last view, which comes without a gate. (A link that waits for a gate does not see
  // what is behind, and where memory is shared only the short view comes over the wire.)
  static constexpr size_t kViews = 4;
  static constexpr size_t kShortView = kViews;
  // After about this many bytes in one direction the others have their turn.
  static constexpr size_t kTurnBytes = 1 << 20;

  Link(Connection connection, std::string peer_id, int peer_rank, size_t chunk_bytes,
       std::shared_ptr<const Arena> arena);

  // Called after each message that was copied out of the peer's memory: at low priority, many of them take long.
  void set_after_copy(std::function<void()> call) { after_copy_ = std::move(call); }

  // Each posts one message of at most chunk_bytes.
  void Send(const Operation& operation, std::span<const std::byte> data, Gate gate = {});
  void Receive(const Operation& operation, std::span<std::byte> into);
  // `*view` is set to where the bytes lie when they have arrived: in the peer's memory, or in view slot `slot` of this link.
  // They stay until Consumed(), which is called once per view, in order, and fails if the peer had given up meanwhile.
  void ReceiveView(const Operation& operation, size_t bytes, size_t slot, Gate gate,
                   const std::byte** view);
  std::optional<Trouble> Consumed();

  // Sends what it can; with `answer`, also kDone for all shared messages that have been read.
  std::optional<Trouble> Write(bool answer);
  // Sends a heartbeat, unless other bytes are on their way, which do as well.
  void Beat();
  // Takes what has arrived.
  std::optional<Trouble> Read();
  // Goes on with a message that could not be taken before (nothing was posted for it, or its gate was closed).
  std::optional<Trouble> Resume();

  // Nothing posted is left, here or at the peer.
  bool Idle() const { return views_.empty() && !NeedsPeer(); }
  // The peer must do something more. It is not needed any more for views that came over the wire.
  bool NeedsPeer() const;
  // The peer has closed, and all that it sent has been taken.
  bool closed() const { return closed_; }
  Trouble Lost(std::string_view how = "closed the connection") const;

  // What poll() should wait for; the descriptor is -1 if nothing.
  pollfd PollEntry() const;

  void BeginOperation(TimePoint now);
  // Messages taken since then.
  uint64_t taken() const { return messages_taken_ - taken_before_; }
  // Something is wanted of the peer: it is not held up by a closed gate of ours.
  bool Waits() const { return NeedsPeer() && state_ != State::kBlocked; }
  // When something of an operation passed last; when anything arrived last, a heartbeat perhaps.
  TimePoint last_activity() const { return last_activity_; }
  TimePoint last_heard() const { return last_heard_; }
  // Whether a message has arrived since the last call.
  bool TakeArrived() { return std::exchange(arrived_, false); }

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }

  // Ends the link: says `last_words` if it can (after the message that is half sent), and returns what is left to be said.
  std::optional<RetiredConnection> Retire(const std::string& last_words) &&;

 private:
  struct Outgoing {
    Operation operation;
    std::span<const std::byte> data;
    Gate gate;
  };
  struct Incoming {
    Operation operation;
    std::span<std::byte> into;
    Gate gate;
    const std::byte** view = nullptr;
  };
  // A frame on its way out. `sent` counts bytes of header and payload together.
  struct Piece {
    Frame header;
    std::span<const std::byte> payload;
    int fd = -1;
    size_t sent = 0;
    size_t size() const { return sizeof(Frame) + payload.size(); }
  };

  // Sending (link_send.cc).
  bool OnlyHeartbeatLeft() const;
  void Commit(const Outgoing& message);
  void Answer();
  Io SendPieces();
  void AdvancePieces(size_t bytes);

  // Receiving (link_receive.cc).
  std::optional<Trouble> Confirm();
  Io ReceiveBytes();
  size_t TakeBuffered(std::span<std::byte> into);
  std::optional<Trouble> Parse();
  std::optional<Trouble> OnFrame();
  std::optional<Trouble> OnMessage();
  std::optional<Trouble> OnInline(Incoming& message);
  std::optional<Trouble> OnShared(Incoming& message);
  void OnMessageComplete();
  std::optional<Trouble> OnRevoke();
  Trouble Malformed(const std::string& what) const;
  Trouble Disagreement(const std::string& here) const;
  std::byte* ViewSlot(size_t slot);

  void Touch() { last_activity_ = MonotonicNow(); }
  const UniqueFd& fd() const { return connection_.fd; }

  Connection connection_;
  const int rank_;
  const std::string name_;  // "peer 2 (w-2)"
  const size_t chunk_bytes_;
  const std::shared_ptr<const Arena> arena_;

  std::deque<Outgoing> outgoing_;
  std::deque<Piece> pieces_;
  uint64_t messages_sent_ = 0;
  uint64_t shared_sent_ = 0;
  uint64_t shared_answered_ = 0;  // by the peer
  std::vector<bool> segments_announced_;
  bool broken_ =
      false;  // nothing can be sent any more; what arrives is only searched for a revocation

  std::deque<Incoming> incoming_;
  std::deque<bool> views_;  // not yet consumed; true if shared
  std::unique_ptr<std::byte[]> view_slots_;
  RemoteArena remote_;
  UniqueFd passed_;  // a descriptor that has arrived before its kSegment frame
  uint64_t messages_taken_ = 0;
  uint64_t taken_before_ = 0;     // when the operation began
  uint64_t shared_taken_ = 0;     // arrived
  uint64_t shared_consumed_ = 0;  // of them, read
  uint64_t shared_reported_ = 0;

  enum class State {
    kHeader,   // the next bytes are a header
    kBlocked,  // frame_ is a message that cannot be taken yet
    kPayload,  // the next bytes belong to payload_
    kReason,   // the next bytes belong to reason_
    kDiscard,  // the next discard_ bytes are of no use
  };
  State state_ = State::kHeader;
  Frame frame_;
  std::span<std::byte> payload_;
  std::string reason_;
  size_t discard_ = 0;
  std::array<std::byte, 16384> buffer_;
  size_t buffer_begin_ = 0;
  size_t buffer_end_ = 0;
  bool closed_ = false;
  bool drained_ = false;  // the last Read() has seen everything that had arrived
  bool arrived_ = false;
  std::function<void()> after_copy_;
  TimePoint last_activity_{};
  TimePoint last_heard_{};
};

}  // namespace muster::host
