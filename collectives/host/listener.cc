#include "collectives/host/listener.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>

#include "runtime/base/log.h"

namespace muster::host {
namespace {

// How long a process without a free descriptor leaves connections in the kernel's queue.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

Listener::Listener(std::shared_ptr<const Credentials> credentials, Wakeup wakeup)
    : credentials_(std::move(credentials)), wakeup_(std::move(wakeup)) {}

Result<std::unique_ptr<Listener>> Listener::Create(const HostOptions& options,
                                                   std::shared_ptr<const Credentials> credentials) {
  MUSTER_ASSIGN(Wakeup wakeup, Wakeup::Create());
  std::unique_ptr<Listener> listener(new Listener(std::move(credentials), std::move(wakeup)));
  MUSTER_TRY(listener->Open(options));
  listener->thread_ = std::jthread([self = listener.get()](std::stop_token stop) {
    ::pthread_setname_np(::pthread_self(), "muster-listen");
    self->Serve(std::move(stop));
  });
  return listener;
}

Listener::~Listener() {
  thread_.request_stop();
  wakeup_.Signal();
}

Status Listener::Open(const HostOptions& options) {
  MUSTER_ASSIGN(const SocketAddress tcp, TcpAddress(options.listen_address, 0));
  MUSTER_ASSIGN(tcp_, Listen(tcp));
  MUSTER_ASSIGN(address_.port, LocalPort(tcp_.get()));
  address_.ip = options.listen_address;
  address_.boot_id = ReadBootId();
  if (!credentials_->probe || address_.boot_id.empty()) return {};
  // Unguessable, because anybody in the network namespace may try to connect.
  std::array<std::byte, 16> random{};
  FillRandom(random);
  const std::string name = "muster-" + ToHex(random);
  MUSTER_ASSIGN(local_, Listen(AbstractAddress(name)));
  address_.abstract_name = name;
  return {};
}

void Listener::Retire(RetiredConnection connection) {
  retirement_.Add(std::move(connection), MonotonicNow());
  wakeup_.Signal();
}

void Listener::StartHeartbeat(const void* of, Duration interval, std::function<void()> beat) {
  heartbeats_.Start(of, interval, std::move(beat), MonotonicNow());
  wakeup_.Signal();
}

void Listener::Serve(std::stop_token stop) {
  while (!stop.stop_requested()) {
    Wait();
    wakeup_.Clear();
    const TimePoint now = MonotonicNow();
    AcceptAll(tcp_.get(), false, now);
    if (local_) AcceptAll(local_.get(), true, now);
    AdvanceHandshakes(now);
    parking_.Expire(now);
    retirement_.Advance(now);
    heartbeats_.Advance(now);
  }
  retirement_.Advance(MonotonicNow());
}

void Listener::Wait() {
  const TimePoint now = MonotonicNow();
  std::vector<pollfd> poll_set{{.fd = wakeup_.fd(), .events = POLLIN}};
  if (accept_again_ <= now) {
    poll_set.push_back({.fd = tcp_.get(), .events = POLLIN});
    poll_set.push_back({.fd = local_.get(), .events = POLLIN});  // ignored if it is invalid
  }
  for (const Unproven& entry : unproven_) {
    poll_set.push_back({.fd = entry.handshake.fd(), .events = entry.handshake.events()});
  }
  retirement_.AppendTo(poll_set);
  ::poll(poll_set.data(), poll_set.size(), PollTimeout(NextDeadline(now), now));
}

TimePoint Listener::NextDeadline(TimePoint now) const {
  TimePoint next = now + std::chrono::hours(1);
  if (!unproven_.empty()) next = std::min(next, unproven_.front().deadline);
  if (accept_again_ > now) next = std::min(next, accept_again_);
  for (const auto& deadline :
       {parking_.NextExpiry(), retirement_.NextDeadline(), heartbeats_.NextDeadline()}) {
    if (deadline) next = std::min(next, *deadline);
  }
  return next;
}

void Listener::AcceptAll(int listener, bool local, TimePoint now) {
  while (accept_again_ <= now) {
    auto fd = Accept(listener);
    if (!fd) {
      log::warn("host_listener=pause reason=\"{}\"", fd.error().message);
      accept_again_ = now + kAcceptPause;
    } else if (!*fd) {
      return;
    } else if (local && !PeerIsSameUser(fd->get())) {
      log::warn("host_listener=drop reason=\"a Unix peer of another user\"");
    } else {
      if (unproven_.size() == kMaxHandshakes) unproven_.pop_front();
      unproven_.push_back(
          {Handshake::Accept(std::move(*fd), local, credentials_), now + kHandshakeTime});
    }
  }
}

void Listener::AdvanceHandshakes(TimePoint now) {
  std::erase_if(unproven_, [this, now](Unproven& entry) {
    switch (entry.handshake.Advance()) {
      case Handshake::Progress::kDone:
        parking_.Park(std::move(entry.handshake).Take(), now);
        return true;
      case Handshake::Progress::kFailed:
        log::warn("host_listener=drop reason=\"{}\"", entry.handshake.error().message);
        return true;
      case Handshake::Progress::kPending:
        if (entry.deadline > now) return false;
        log::warn("host_listener=drop reason=\"no proof within {:.0f} s\"",
                  Seconds(kHandshakeTime));
        return true;
    }
    return true;
  });
}

}  // namespace muster::host
