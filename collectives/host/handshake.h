// Handshake: the first four messages on a connection between two ranks of a generation.
//
//   connector                              acceptor
//   Hello (who, nonce, token)        --->
//                                    <---  Challenge (nonce, token, proof of the secret)
//   Proof (proof of the secret)      --->
//                                          ... parked until the acceptor gets its order ...
//                                    <---  Welcome
//
// A proof is HMAC-SHA256 with the job's secret over the role, the job id and everything said before, nonces included: it
// cannot be replayed, reflected or used for another job, generation or rank. On a Unix socket Hello and Challenge carry
// the descriptor of a Probe, and each side says whether it could map the other's.
//
// Threading: a Handshake belongs to one thread at a time. It never blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "collectives/host/arena.h"
#include "collectives/host/socket.h"
#include "runtime/base/status.h"
#include "runtime/base/unique_fd.h"

namespace muster::host {

// What a process brings to every handshake.
struct Credentials {
  std::string job;
  std::string secret;
  uint64_t chunk_bytes = 0;  // must be equal on both sides: it decides where messages are cut
  std::shared_ptr<const Probe> probe;  // null: no shared memory
};

// Which connection this is. `from` connects to `to`, and from > to.
struct ConnectionKey {
  uint64_t generation = 0;
  int from = 0;
  int to = 0;
  int size = 0;
};

// An authenticated connection.
struct Connection {
  UniqueFd fd;
  ConnectionKey key;
  bool peer_reads_arena = false;  // the peer can map our segments
};

class Handshake {
 public:
  // `local`: `fd` is a Unix socket.
  static Handshake Connect(UniqueFd fd, bool local, std::shared_ptr<const Credentials> credentials,
                           const ConnectionKey& key);
  static Handshake Accept(UniqueFd fd, bool local, std::shared_ptr<const Credentials> credentials);

  enum class Progress { kPending, kDone, kFailed };

  // Does what can be done without blocking. The acceptor is done after Proof, the connector after Welcome.
  Progress Advance();

  // What poll() should wait for.
  int fd() const { return connection_.fd.get(); }
  short events() const;

  // The connector has proven itself and only waits for Welcome.
  bool AwaitsWelcome() const { return stage_ == Stage::kReceiveWelcome; }

  // After kFailed: kUnavailable (connection trouble, worth another try), kUnauthenticated, kInvalidArgument (the peer's
  // options or its position do not fit).
  const Error& error() const { return error_; }

  // After kDone.
  Connection Take() && { return std::move(connection_); }

 private:
  enum class Stage {
    kSendHello,
    kReceiveChallenge,
    kSendProof,
    kReceiveWelcome,
    kReceiveHello,
    kSendChallenge,
    kReceiveProof,
    kDone,
    kFailed,
  };

  Handshake(UniqueFd fd, bool local, std::shared_ptr<const Credentials> credentials);
  bool Sending() const;
  int DescriptorToPass() const;
  void BeginSend(Stage stage, const void* message, size_t bytes);
  void BeginReceive(Stage stage, size_t bytes);
  void OnComplete();
  void OnHello();
  void OnChallenge();
  void OnProof();
  void Fail(Code code, std::string message);
  std::array<std::byte, 32> Mac(std::string_view role) const;

  std::shared_ptr<const Credentials> credentials_;
  Connection connection_;
  bool local_ = false;
  Stage stage_ = Stage::kFailed;
  std::vector<std::byte> message_;     // being sent or received
  size_t done_ = 0;                    // bytes of it that have passed
  std::vector<std::byte> transcript_;  // all that has been said, without the proofs
  UniqueFd peer_probe_;
  Error error_;
};

// Tells the connector that its connection has been claimed. False if the connection is dead.
bool SendWelcome(int fd);

}  // namespace muster::host
