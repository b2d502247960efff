#include "collectives/host/connect.h"

#include <fmt/ranges.h>
#include <poll.h>

#include <algorithm>
#include <optional>

#include "runtime/base/backoff.h"

namespace muster::host {
namespace {

// A peer that does not answer the greeting in this time gets a new connection: the old one may have met a listener that
// is gone, or a lost packet.
constexpr Duration kAttemptTime = std::chrono::seconds(5);
constexpr BackoffPolicy kBackoff{std::chrono::milliseconds(5), std::chrono::milliseconds(250)};
constexpr size_t kMaxNamed = 8;  // missing peers named in an error

// Our way to one lower rank.
class Dial {
 public:
  Dial(const Address& address, const ConnectionKey& key, bool try_local,
       std::shared_ptr<const Credentials> credentials)
      : address_(address), key_(key), try_local_(try_local), credentials_(std::move(credentials)) {}

  // Goes on as far as possible. Errors: those that another try cannot heal.
  Status Advance(TimePoint now) {
    if (connection_) return {};
    if (!handshake_ && now >= next_time_) Start(now);
    if (!handshake_) return {};
    switch (handshake_->Advance()) {
      case Handshake::Progress::kDone:
        connection_ = std::move(*handshake_).Take();
        handshake_.reset();
        return {};
      case Handshake::Progress::kFailed:
        return Failed(now, handshake_->error());
      case Handshake::Progress::kPending:
        if (handshake_->AwaitsWelcome() || now < next_time_) return {};
        return Failed(now, {Code::kUnavailable, "it does not answer", {}});
    }
    return {};
  }

  // When to advance again without an event.
  TimePoint next_time() const {
    const bool waits = connection_ || (handshake_ && handshake_->AwaitsWelcome());
    return waits ? TimePoint::max() : next_time_;
  }
  pollfd poll_entry() const {
    if (!handshake_) return {.fd = -1};
    return {.fd = handshake_->fd(), .events = handshake_->events()};
  }
  bool done() const { return connection_.has_value(); }
  Connection Take() { return std::move(*connection_); }
  std::string trouble() const {
    if (handshake_ && handshake_->AwaitsWelcome()) return "it has not joined this generation";
    return trouble_.empty() ? "it does not answer" : trouble_;
  }

 private:
  void Start(TimePoint now) {
    auto local = try_local_ ? StartLocal() : std::nullopt;
    if (local) {
      handshake_ = Handshake::Connect(std::move(*local), true, credentials_, key_);
    } else {
      auto fd = TcpAddress(address_.ip, address_.port).and_then(StartConnect);
      if (!fd) return Retry(now, fd.error().message);
      handshake_ = Handshake::Connect(std::move(*fd), false, credentials_, key_);
    }
    next_time_ = now + kAttemptTime;
  }

  // The Unix socket cannot be reached from another network namespace, and a process of another user may only use TCP.
  std::optional<UniqueFd> StartLocal() {
    auto fd = StartConnect(AbstractAddress(address_.abstract_name));
    if (!fd || !PeerIsSameUser(fd->get())) return std::nullopt;
    return std::move(*fd);
  }

  // By value: the error may live in the handshake that is thrown away here.
  Status Failed(TimePoint now, Error error) {
    if (error.code != Code::kUnavailable) return tl::unexpected<Error>(std::move(error));
    handshake_.reset();
    Retry(now, std::move(error.message));
    return {};
  }

  void Retry(TimePoint now, std::string trouble) {
    trouble_ = std::move(trouble);
    next_time_ = now + kBackoff.Delay(tries_++);
  }

  const Address address_;
  const ConnectionKey key_;
  const bool try_local_;
  const std::shared_ptr<const Credentials> credentials_;
  std::optional<Handshake> handshake_;
  std::optional<Connection> connection_;
  std::string trouble_;
  int tries_ = 0;
  TimePoint next_time_{};  // of the next try, or the end of the running one
};

class Gathering {
 public:
  Gathering(const ConnectRequest& request, Listener& listener, const Wakeup& wakeup)
      : request_(request), listener_(listener), wakeup_(wakeup), claimed_(request.peers.size()) {
    listener_.parking().Watch(&wakeup_);
  }
  ~Gathering() { listener_.parking().Unwatch(&wakeup_); }

  Status Prepare(std::shared_ptr<const Credentials> credentials) {
    const Address& own = listener_.address();
    for (int peer = 0; peer < request_.rank; ++peer) {
      MUSTER_ASSIGN(const Address address, Address::Parse(PeerAt(peer).address));
      const bool same_machine = !own.abstract_name.empty() && !address.abstract_name.empty() &&
                                own.boot_id == address.boot_id;
      dials_.emplace_back(address, ConnectionKey{request_.generation, request_.rank, peer, size()},
                          same_machine, credentials);
    }
    return {};
  }

  Status Run(std::stop_token stop) {
    const TimePoint deadline = MonotonicNow() + request_.connect_timeout;
    while (true) {
      if (stop.stop_requested()) {
        return Err(Code::kCancelled, "connecting generation {} was cancelled", request_.generation);
      }
      const TimePoint now = MonotonicNow();
      MUSTER_TRY(Advance(now));
      if (Complete()) return {};
      if (now >= deadline) return Missing();
      Wait(deadline, now);
    }
  }

  std::vector<Connection> Take() {
    std::vector<Connection> connections(request_.peers.size());
    for (int peer = 0; peer < size(); ++peer) {
      const auto index = static_cast<size_t>(peer);
      if (peer < request_.rank) connections[index] = dials_[index].Take();
      if (peer > request_.rank) connections[index] = std::move(*claimed_[index]);
    }
    return connections;
  }

 private:
  int size() const { return static_cast<int>(request_.peers.size()); }
  const Peer& PeerAt(int rank) const { return request_.peers[static_cast<size_t>(rank)]; }
  std::string Name(int rank) const { return fmt::format("rank {} ({})", rank, PeerAt(rank).id); }

  Status Advance(TimePoint now) {
    for (int peer = 0; peer < request_.rank; ++peer) {
      Status status = dials_[static_cast<size_t>(peer)].Advance(now);
      if (!status) {
        return Err(status.error().code, "cannot connect to {} at {}: {}", Name(peer),
                   PeerAt(peer).address, status.error().message);
      }
    }
    for (int peer = request_.rank + 1; peer < size(); ++peer) ClaimFrom(peer);
    return {};
  }

  void ClaimFrom(int peer) {
    auto& place = claimed_[static_cast<size_t>(peer)];
    if (place) return;
    auto connection = listener_.parking().Claim(request_.generation, peer);
    // A peer that was told another membership under the same number may try again when it knows better.
    if (!connection || connection->key.to != request_.rank || connection->key.size != size()) {
      return;
    }
    if (SendWelcome(connection->fd.get())) place = std::move(connection);
  }

  bool Complete() const {
    for (int peer = request_.rank + 1; peer < size(); ++peer) {
      if (!claimed_[static_cast<size_t>(peer)]) return false;
    }
    return std::ranges::all_of(dials_, &Dial::done);
  }

  void Wait(TimePoint deadline, TimePoint now) {
    std::vector<pollfd> poll_set{{.fd = wakeup_.fd(), .events = POLLIN}};
    for (const Dial& dial : dials_) {
      poll_set.push_back(dial.poll_entry());
      deadline = std::min(deadline, dial.next_time());
    }
    ::poll(poll_set.data(), poll_set.size(), PollTimeout(deadline, now));
    wakeup_.Clear();
  }

  tl::unexpected<Error> Missing() const {
    std::vector<std::string> missing;
    std::vector<int> ranks;
    for (int peer = 0; peer < size(); ++peer) {
      const auto index = static_cast<size_t>(peer);
      const bool below = peer < request_.rank;
      if (peer == request_.rank || (below ? dials_[index].done() : claimed_[index].has_value())) {
        continue;
      }
      ranks.push_back(peer);
      missing.push_back(fmt::format(
          "{}: {}", Name(peer), below ? dials_[index].trouble() : "it has not connected to us"));
    }
    if (request_.missing != nullptr) *request_.missing = ranks;
    const size_t count = missing.size();
    if (count > kMaxNamed) {
      missing.resize(kMaxNamed);
      missing.push_back("and more");
    }
    return WithHint(
        Err(Code::kDeadlineExceeded, "generation {}: {} of {} peers are missing after {:.1f} s: {}",
            request_.generation, count, size() - 1, Seconds(request_.connect_timeout),
            fmt::join(missing, "; ")),
        "look at the logs of the missing workers and at the network between them");
  }

  const ConnectRequest& request_;
  Listener& listener_;
  const Wakeup& wakeup_;
  std::vector<Dial> dials_;                         // to the ranks below ours
  std::vector<std::optional<Connection>> claimed_;  // by rank; from the ranks above ours
};

}  // namespace

Result<std::vector<Connection>> ConnectPeers(const ConnectRequest& request, Listener& listener,
                                             std::shared_ptr<const Credentials> credentials,
                                             std::stop_token stop) {
  MUSTER_ASSIGN(const Wakeup wakeup, Wakeup::Create());
  Gathering gathering(request, listener, wakeup);
  MUSTER_TRY(gathering.Prepare(std::move(credentials)));
  const std::stop_callback wake(stop, [&wakeup] { wakeup.Signal(); });
  MUSTER_TRY(gathering.Run(stop));
  return gathering.Take();
}

}  // namespace muster::host
