// Listener: a process's ear. It accepts connections on TCP and on an abstract Unix socket, makes them prove themselves, and
// parks them for Connect(); it also sees retired connections off, and sends heartbeats.
//
// Threading: safe from any thread; the work is done by one thread of its own, which ends with the listener.
// Limits: kMaxHandshakes unproven connections at a time, the oldest makes room; each has kHandshakeTime.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "collectives/host/address.h"
#include "collectives/host/handshake.h"
#include "collectives/host/heartbeats.h"
#include "collectives/host/host.h"
#include "collectives/host/parking.h"
#include "collectives/host/retirement.h"

namespace muster::host {

class Listener {
 public:
  static constexpr size_t kMaxHandshakes = 64;
  static constexpr Duration kHandshakeTime = std::chrono::seconds(2);

  // Errors: kInvalidArgument (the listen address), kUnavailable.
  static Result<std::unique_ptr<Listener>> Create(const HostOptions& options,
                                                  std::shared_ptr<const Credentials> credentials);
  ~Listener();

  const Address& address() const { return address_; }
  Parking& parking() { return parking_; }

  // Sees `connection` off in the background.
  void Retire(RetiredConnection connection);

  // See Heartbeats.
  void StartHeartbeat(const void* of, Duration interval, std::function<void()> beat);
  void EndHeartbeat(const void* of) { heartbeats_.End(of); }

 private:
  struct Unproven {
    Handshake handshake;
    TimePoint deadline;
  };

  Listener(std::shared_ptr<const Credentials> credentials, Wakeup wakeup);
  Status Open(const HostOptions& options);
  void Serve(std::stop_token stop);
  void Wait();
  TimePoint NextDeadline(TimePoint now) const;
  void AcceptAll(int listener, bool local, TimePoint now);
  void AdvanceHandshakes(TimePoint now);

  const std::shared_ptr<const Credentials> credentials_;
  const Wakeup wakeup_;
  Address address_;
  UniqueFd tcp_;
  UniqueFd local_;  // invalid without shared memory
  Parking parking_;
  Retirement retirement_;
  Heartbeats heartbeats_;
  // Only for thread_:
  std::list<Unproven> unproven_;  // oldest first
  TimePoint accept_again_{};      // no descriptors were free until then
  std::jthread thread_;           // last: it ends before what it uses
};

}  // namespace muster::host
